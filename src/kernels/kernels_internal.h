// What kernels.cc collects its sets from; nobody else includes this.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace mobe {

KernelSet ScalarKernels();
// Those that Highway compiled and this CPU can run, best first.
std::vector<KernelSet> SimdKernels();

// Below this the inverse of to_int8's scale might be infinite.
inline constexpr float kSmallestInt8 = 1e-30f;

// Scratch of `cols` floats that belongs to the calling thread and is valid
// until its next call. It is here, and not beside its users, because code that
// is compiled for one instruction set must not instantiate what others share.
float* RowScratch(int64_t cols);

}  // namespace mobe
