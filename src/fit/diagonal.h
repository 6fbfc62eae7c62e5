// Diagonals of square matrices: what keeps normal equations solvable, and what
// moments are scaled by.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/matrix.h"

namespace mobe {

template <class T>
double Trace(int64_t size, const T* matrix) {
  double trace = 0;
  for (int64_t k = 0; k < size; ++k) trace += matrix[k * (size + 1)];
  return trace;
}

template <class T>
double MeanDiagonal(int64_t size, const T* matrix) {
  return Trace(size, matrix) / static_cast<double>(size);
}

template <class T>
void AddToDiagonal(int64_t size, T value, T* matrix) {
  for (int64_t k = 0; k < size; ++k) matrix[k * (size + 1)] += value;
}

// matrix [size, size] = I.
inline void SetToIdentity(int64_t size, Buffer<float>* matrix) {
  matrix->Resize(size * size);
  std::fill(matrix->begin(), matrix->end(), 0.0f);
  AddToDiagonal(size, 1.0f, matrix->data());
}

inline constexpr double kRidge = 1e-6;
inline constexpr double kLeastRidge = 1e-30;

// Makes normal equations definite: adds `ridges` millionths of the mean of
// their diagonal to it, or a little where that is zero.
template <class T>
void AddRidge(int64_t size, T* gram, double ridges = 1) {
  const double ridge =
      ridges * kRidge * Trace(size, gram) / static_cast<double>(size);
  AddToDiagonal(size, static_cast<T>(std::max(ridge, kLeastRidge)), gram);
}

// The same to millionths of each number of the diagonal, for unknowns that
// differ by orders of magnitude: the small ones are not to vanish.
template <class T>
void AddOwnRidge(int64_t size, T* gram, double ridges = 1) {
  for (int64_t k = 0; k < size; ++k) {
    T& own = gram[k * (size + 1)];
    own += static_cast<T>(std::max(ridges * kRidge * own, kLeastRidge));
  }
}

// Divides by the mean of every `stride`th value; of a square matrix' size plus
// 1, that is the mean of its diagonal. False, and nothing done, where it is not
// positive.
inline bool ScaleToMeanOne(int64_t stride, Buffer<float>* values) {
  double sum = 0;
  int64_t count = 0;
  for (int64_t i = 0; i < values->size(); i += stride, ++count) {
    sum += (*values)[i];
  }
  if (!(sum > 0)) return false;
  const auto factor = static_cast<float>(static_cast<double>(count) / sum);
  for (float& value : *values) value *= factor;
  return true;
}

}  // namespace mobe
