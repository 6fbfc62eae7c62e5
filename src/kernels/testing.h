// What the tests of the kernels share.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <random>
#include <vector>

#include "kernels/kernels.h"

namespace mobe {

// Names a set in messages and in ctest; by default they would show its bytes.
inline void PrintTo(const KernelSet& set, std::ostream* out) {
  *out << set.name;
}

// From 1 to the next float.
inline constexpr double kEps = FLT_EPSILON;

// `size` elements that end where the allocation ends and start `shift` after
// it starts.
template <class T>
class Array {
 public:
  Array(int64_t size, int64_t shift) : shift_(shift), all_(size + shift) {}

  T* data() { return all_.data() + shift_; }
  const T* data() const { return all_.data() + shift_; }
  T& operator[](int64_t i) { return data()[i]; }
  const T& operator[](int64_t i) const { return data()[i]; }
  int64_t size() const { return static_cast<int64_t>(all_.size()) - shift_; }

  // Equal bits, which for floats tells -0 from 0 and takes NaN for itself.
  bool operator==(const Array& other) const {
    return size() == other.size() &&
           (size() == 0 ||
            std::memcmp(data(), other.data(), size() * sizeof(T)) == 0);
  }

 private:
  int64_t shift_;
  std::vector<T> all_;
};
using Floats = Array<float>;

inline Floats Random(int64_t size, int64_t shift = 0, float scale = 1.0f) {
  static std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, scale);
  Floats values(size, shift);
  for (int64_t i = 0; i < size; ++i) values[i] = normal(random);
  return values;
}

// The same for the same seed: from -0.5 to 0.5, and normal ones.
inline std::vector<float> EvenFloats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(random()) / 4294967296.0f - 0.5f;
  }
  return values;
}
inline std::vector<float> NormalFloats(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

inline Floats Shifted(const Floats& values, int64_t shift) {
  Floats copy(values.size(), shift);
  std::copy_n(values.data(), values.size(), copy.data());
  return copy;
}

// A matrix of all FP8 numbers but NaN, divided into blocks, and what it stands
// for.
struct Float8Matrix {
  Float8Matrix(int64_t rows, int64_t cols, int64_t block_rows,
               int64_t block_cols, int64_t shift = 0)
      : stored(rows * cols, shift), values(rows * cols, shift) {
    const int64_t stride = (cols + block_cols - 1) / block_cols;
    scales = Random((rows + block_rows - 1) / block_rows * stride);
    view = {NumberFormat::kF8, stored.data(), rows,       cols,
            scales.data(),     block_rows,    block_cols, stride};
    std::mt19937 random(1);
    for (int64_t i = 0; i < rows * cols; ++i) {
      // 0 to 126, and the same with a sign.
      const auto bits = static_cast<uint8_t>(random() % 254);
      stored[i] = {static_cast<uint8_t>(bits < 127 ? bits : bits + 1)};
      values[i] =
          ToFloat(stored[i]) *
          scales[i / cols / block_rows * stride + i % cols / block_cols];
    }
  }
  Float8Matrix(Float8Matrix&&) = default;  // the arrays stay where they are

  Array<Float8> stored;
  Floats scales{0, 0};
  Floats values;
  WeightView view;
};

}  // namespace mobe
