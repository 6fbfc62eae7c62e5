// How fast this machine reads memory: the bound of decoding.
#pragma once

namespace mobe {

// Bytes a second that all threads of ParallelFor together read from a buffer
// far larger than the last-level cache: the best of several times in about
// `seconds`. Fails with kOutOfMemory where there is no room for the buffer.
double MeasureBandwidth(double seconds);

}  // namespace mobe
