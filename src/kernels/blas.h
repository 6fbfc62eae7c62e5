// OpenBLAS and LAPACKE, as the fit uses them: one thread for each call, since
// experts and groups run in parallel instead, and no waiting for memory.
#pragma once

#include <cblas.h>
#include <lapacke.h>

namespace mobe {

// Which of its sets of loops OpenBLAS runs, as "SkylakeX": another one rounds
// otherwise. OPENBLAS_CORETYPE chooses.
const char* BlasKernels();

// Before the first parallel loop that calls BLAS or LAPACK, outside of loops.
// OpenBLAS maps a buffer of 128 MiB for each concurrent call and tries for ever
// when there is no room (ulimit -v), so all that the threads need are taken
// here. Fails with kOutOfMemory when they can't be.
void PrepareBlas();

// Fails with kOutOfMemory when that is what LAPACKE's `info` says.
void CheckLapackMemory(int info);

}  // namespace mobe
