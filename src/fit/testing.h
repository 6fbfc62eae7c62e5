// What the tests of the fit share: targets and factors of known values.
#pragma once

#include <cmath>
#include <cstring>
#include <random>

#include "base/parallel.h"
#include "base/testing.h"
#include "fit/fit.h"

namespace mobe {

// One thread while it lives: on a busy machine two of them wait for each other
// at the end of each of many short loops.
struct OneThread {
  OneThread() { SetThreads(1); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() { SetThreads(0); }
};

// Normal numbers.
inline void Fill(std::mt19937_64* random, float scale, Buffer<float>* values) {
  std::normal_distribution<float> normal(0, scale);
  for (float& value : *values) value = normal(*random);
}

// Factors of normal numbers; of a size as in practice for A.
inline Factors RandomFactors(Activation activation, int64_t experts,
                             int64_t rows, int64_t cols, int64_t num_bases,
                             uint64_t seed) {
  Factors factors;
  factors.num_bases = num_bases;
  factors.rank = rows;
  factors.activation = activation;
  factors.a.Resize(experts * rows * rows);
  factors.bases.Resize(num_bases * rows * cols);
  factors.alpha.Resize(experts * num_bases);
  std::mt19937_64 random(seed);
  Fill(&random, 0.02f, &factors.a);
  Fill(&random, 1, &factors.bases);
  Fill(&random, 1, &factors.alpha);
  return factors;
}

// A target to be filled.
inline FitTarget EmptyTarget(int64_t experts, int64_t rows, int64_t cols) {
  FitTarget target;
  target.experts = experts;
  target.rows = rows;
  target.cols = cols;
  target.weights.Resize(experts * target.matrix_size());
  return target;
}

inline void SetScale(FitTarget* target) {
  double squares = 0;
  for (const float w : target->weights) squares += w * w;
  target->scale =
      std::sqrt(squares / static_cast<double>(target->weights.size()));
}

// What the factors stand for.
inline FitTarget TargetOf(const Factors& factors, int64_t experts, int64_t rows,
                          int64_t cols) {
  FitTarget target = EmptyTarget(experts, rows, cols);
  Buffer<float> scratch;
  for (int64_t e = 0; e < experts; ++e) {
    BuildExpert(factors, e, rows, cols, &scratch,
                target.weights.data() + e * target.matrix_size());
  }
  SetScale(&target);
  return target;
}

// Nothing but noise.
inline FitTarget RandomTarget(int64_t experts, int64_t rows, int64_t cols) {
  FitTarget target = EmptyTarget(experts, rows, cols);
  std::mt19937_64 random(1);
  Fill(&random, 0.02f, &target.weights);
  SetScale(&target);
  return target;
}

inline bool Same(const Buffer<float>& a, const Buffer<float>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(),
                     static_cast<size_t>(a.size()) * sizeof(float)) == 0;
}

}  // namespace mobe
