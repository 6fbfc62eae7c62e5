// Spectra of matrices with more rows than fit in memory.
#pragma once

#include <cstdint>
#include <vector>

#include "base/matrix.h"

namespace mobe {

// Share of the squared singular values of a matrix with `size` columns: values
// [i] is the sum of the i + 1 largest over that of all.
using Energy = std::vector<double>;

// The Gram matrix of rows that are added in pieces.
class Gram {
 public:
  explicit Gram(int64_t size);
  // rows [count, size]. Parallel.
  void Add(const float* rows, int64_t count);
  // From the eigenvalues. Uses the matrix up: the last thing to ask for.
  Energy SingularValueEnergy();

 private:
  int64_t size_;
  Buffer<float> upper_;  // [size, size]; 0 below the diagonal
};

}  // namespace mobe
