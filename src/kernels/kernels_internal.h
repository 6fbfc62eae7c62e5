// What kernels.cc collects its sets from; nobody else includes this.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace mobe {

// Of KernelSet::to_int8: the largest code, and the least magnitude of which 127
// times the inverse is a float.
inline constexpr float kMostInt8 = 127;
inline constexpr float kLeastInt8 = 0x1p-120f;
// And of to_int15.
inline constexpr float kLeastInt15 = 0x1p-112f;

KernelSet ScalarKernels();
// Those that Highway compiled and this CPU can run, best first.
std::vector<KernelSet> SimdKernels();

// Scratch of `cols` floats that belongs to the calling thread and is valid
// until its next call. It is here, and not beside its users, because code that
// is compiled for one instruction set must not instantiate what others share.
float* RowScratch(int64_t cols);

}  // namespace mobe
