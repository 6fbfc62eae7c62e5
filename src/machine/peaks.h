// How fast this machine is at best, to hold speeds against: reading bounds
// decoding, products bound prompts.
#pragma once

#include <string_view>
#include <vector>

namespace mobe {

// Of one arithmetic.
struct ProductPeak {
  const char* name;  // "float32", "bfloat16", "int8"
  // A multiplication and an addition are two. 0: there are none of this kind.
  double operations_per_second;
};

struct Peaks {
  double bytes_per_second = 0;  // MeasureBandwidth
  std::vector<ProductPeak> products;

  // Operations a second; fails with kInternal for a name that is not there.
  double Product(std::string_view name) const;
};

// Of all threads of ParallelFor together: reading, and products of each thread
// by itself, through kernels/gemm.h at a size where they run well; the best of
// several times in about `seconds` in all. Fails as MeasureBandwidth.
Peaks MeasurePeaks(double seconds);

}  // namespace mobe
