// An aligned buffer, and the transpose of a matrix in one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>

#include "base/checked.h"
#include "base/error.h"

namespace mobe {

// to [cols, rows] = the transpose of from [rows, cols].
inline void Transpose(const float* from, int64_t rows, int64_t cols,
                      float* to) {
  constexpr int64_t kTile = 16;  // a cache line of float32
  for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
    const int64_t r1 = std::min(r0 + kTile, rows);
    for (int64_t c0 = 0; c0 < cols; c0 += kTile) {
      const int64_t c1 = std::min(c0 + kTile, cols);
      for (int64_t r = r0; r < r1; ++r) {
        for (int64_t c = c0; c < c1; ++c) to[c * rows + r] = from[r * cols + c];
      }
    }
  }
}

// Bytes rounded up to whole lines of a cache.
inline int64_t WholeLines(int64_t bytes) {
  constexpr int64_t kLine = 64;
  return (bytes + kLine - 1) / kLine * kLine;
}

// Uninitialised memory aligned to a cache line; moves, does not copy.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size) { Resize(size); }
  Buffer(Buffer&& other) noexcept
      : data_(std::move(other.data_)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
    return *this;
  }

  // Contents are lost when the buffer grows.
  void Resize(int64_t size) {
    if (size > capacity_) {
      constexpr size_t kAlign = 64;
      const auto bytes =
          CheckedMul(static_cast<uint64_t>(size), sizeof(T)).value_or(0);
      void* memory = nullptr;
      if (bytes != 0 && bytes < UINT64_MAX - kAlign) {
        memory =
            std::aligned_alloc(kAlign, (bytes + kAlign - 1) / kAlign * kAlign);
      }
      if (memory == nullptr) {
        Fail(ErrorKind::kOutOfMemory, "cannot allocate {} elements of {} bytes",
             size, sizeof(T));
      }
      data_.reset(static_cast<T*>(memory));
      capacity_ = size;
    }
    size_ = size;
  }

  void CopyFrom(const Buffer& other) {
    Resize(other.size());
    std::copy(other.begin(), other.end(), begin());
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) { return data_.get()[i]; }
  const T& operator[](int64_t i) const { return data_.get()[i]; }
  T* begin() { return data(); }
  T* end() { return data() + size_; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size_; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T[], Free> data_;
  int64_t size_ = 0;
  int64_t capacity_ = 0;
};

}  // namespace mobe
