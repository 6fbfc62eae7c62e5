#include "machine/peaks.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>

#include "base/error.h"
#include "base/matrix.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "kernels/gemm.h"
#include "machine/bandwidth.h"

namespace mobe {
namespace {

constexpr int64_t kSize = 1024;  // rows and columns

void Multiply(const float* a, const float* b, float* c) {
  Gemm(Trans::kNo, Trans::kYes, kSize, kSize, kSize, a, kSize, b, kSize, 0.0f,
       c, kSize);
}
void Multiply(const BFloat16* a, const BFloat16* b, float* c) {
  GemmBFloat16(Trans::kNo, Trans::kYes, kSize, kSize, kSize, a, kSize, b, kSize,
               c, kSize);
}

void Multiply(const uint8_t* a, const int8_t* b, int32_t* c) {
  GemmInt8(kSize, kSize, kSize, a, kSize, b, kSize, c, kSize);
}

void Store(float value, float* to) { *to = value; }
void Store(float value, BFloat16* to) { *to = ToBFloat16(value); }
template <class Integer>
void Store(float value, Integer* to) {
  *to = static_cast<Integer>(std::abs(100 * value));
}

// The memory of one thread. Not zeros: with those a processor takes less power,
// and may run faster.
template <class A, class B, class C>
struct Operands {
  Operands() {
    for (int64_t i = 0; i < kSize * kSize; ++i) {
      Store(0.01f * static_cast<float>(i % 251 - 125), &a[i]);
      Store(0.01f * static_cast<float>(i % 241 - 120), &b[i]);
    }
  }
  Buffer<A> a{kSize * kSize};
  Buffer<B> b{kSize * kSize};
  Buffer<C> c{kSize * kSize};
};

template <class A, class B, class C>
double MeasureProducts(double seconds) {
  std::vector<Operands<A, B, C>> all(static_cast<size_t>(Threads()));
  // Several for each thread: one that comes late takes fewer.
  const int64_t count = int64_t{4} * Threads();
  const double start = MonotonicSeconds();
  double best = 0;
  for (int round = 0; round < 3 || MonotonicSeconds() - start < seconds;
       ++round) {
    const double begin = MonotonicSeconds();
    ParallelFor(count, [&](int64_t) {
      Operands<A, B, C>& o = all[static_cast<size_t>(ThreadIndex())];
      Multiply(o.a.data(), o.b.data(), o.c.data());
    });
    const auto operations =
        static_cast<double>(count * 2 * kSize * kSize * kSize);
    best = std::max(best, operations / (MonotonicSeconds() - begin));
  }
  return best;
}

struct ArithmeticRow {
  const char* name;
  double (*measure)(double seconds);
  bool (*available)();
};
constexpr ArithmeticRow kArithmetics[] = {
    {"float32", MeasureProducts<float, float, float>, [] { return true; }},
    {"bfloat16", MeasureProducts<BFloat16, BFloat16, float>, HasBFloat16},
    {"int8", MeasureProducts<uint8_t, int8_t, int32_t>, [] { return true; }}};

}  // namespace

double Peaks::Product(std::string_view name) const {
  for (const ProductPeak& peak : products) {
    if (name == peak.name) return peak.operations_per_second;
  }
  Fail(ErrorKind::kInternal, "no peak of {} was measured", name);
}

Peaks MeasurePeaks(double seconds) {
  const double each = seconds / (1 + std::size(kArithmetics));
  Peaks peaks;
  peaks.bytes_per_second = MeasureBandwidth(each);
  for (const ArithmeticRow& row : kArithmetics) {
    peaks.products.push_back(
        {row.name, row.available() ? row.measure(each) : 0});
  }
  return peaks;
}

}  // namespace mobe
