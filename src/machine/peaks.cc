#include "machine/peaks.h"

#include <algorithm>
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

void FromFloat(float value, float* to) { *to = value; }
void FromFloat(float value, BFloat16* to) { *to = ToBFloat16(value); }

// The memory of one thread. Not zeros: with those a processor takes less power,
// and may run faster.
template <class T>
struct Operands {
  Operands() {
    for (int64_t i = 0; i < kSize * kSize; ++i) {
      FromFloat(0.01f * static_cast<float>(i % 251 - 125), &a[i]);
      FromFloat(0.01f * static_cast<float>(i % 241 - 120), &b[i]);
    }
  }
  Buffer<T> a{kSize * kSize}, b{kSize * kSize};
  Buffer<float> c{kSize * kSize};
};

template <class T>
double MeasureProducts(double seconds) {
  std::vector<Operands<T>> all(static_cast<size_t>(Threads()));
  // Several for each thread: one that comes late takes fewer.
  const int64_t count = int64_t{4} * Threads();
  const double start = MonotonicSeconds();
  double best = 0;
  for (int round = 0; round < 3 || MonotonicSeconds() - start < seconds;
       ++round) {
    const double begin = MonotonicSeconds();
    ParallelFor(count, [&](int64_t) {
      Operands<T>& o = all[static_cast<size_t>(ThreadIndex())];
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
    {"float32", MeasureProducts<float>, [] { return true; }},
    {"bfloat16", MeasureProducts<BFloat16>, HasBFloat16}};

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
