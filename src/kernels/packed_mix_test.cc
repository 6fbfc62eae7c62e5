#include "kernels/packed_mix.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "kernels/testing.h"
#include "tensor/planes.h"

namespace mobe::packed_mix_test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Bases as they are given and stored, planes at odd addresses, and what these
// stand for: [num_bases, rank, cols].
class SomeBases {
 public:
  SomeBases(int64_t num_bases, int64_t rank, int64_t cols, float size = 1)
      : given(Random(num_bases * rank * cols, 0, size)), view_{} {
    view_ = {nullptr, nullptr, num_bases, rank, cols};
    codes_ = Array<std::byte>(rank * view_.row_bytes(), 1);
    scales_ = Array<std::byte>(rank * view_.row_scale_bytes(), 1);
    std::vector<float> row(static_cast<size_t>(num_bases * cols));
    for (int64_t r = 0; r < rank; ++r) {
      for (int64_t i = 0; i < num_bases; ++i) {
        std::copy_n(given.data() + (i * rank + r) * cols, cols,
                    row.data() + i * cols);
      }
      EncodeBasesRow(view_, row.data(), codes_.data() + r * view_.row_bytes(),
                     scales_.data() + r * view_.row_scale_bytes());
    }
    values = Floats(given.size(), 0);
    DecodePlanes(RowOf(NumberFormat::kInt8), shape(), codes_.data(),
                 scales_.data(), 0, given.size(), values.data());
  }

  std::vector<int64_t> shape() const {
    return {view_.num_bases, view_.rank, view_.cols};
  }
  PackedBases view() const {
    PackedBases view = view_;
    view.codes = codes_.data();
    view.scales = scales_.data();
    return view;
  }
  float Scale(int64_t i, int64_t row, int64_t col) const {
    BFloat16 scale{};
    std::memcpy(&scale, view().Scales(row, col / kBasesGroup) + 2 * i, 2);
    return ToFloat(scale);
  }
  // Gives all groups of a basis another scale.
  void SetScales(int64_t i, float value) {
    const BFloat16 scale = ToBFloat16(value);
    const PackedBases v = view();
    for (int64_t at = 0; at < v.rank * v.groups(); ++at) {
      std::memcpy(scales_.data() + at * v.group_scale_bytes() + 2 * i, &scale,
                  2);
    }
  }
  Array<std::byte>& codes() { return codes_; }

  Floats given, values{0, 0};

 private:
  PackedBases view_;
  Array<std::byte> codes_{0, 0}, scales_{0, 0};
};

double ActivateDouble(Activation f, double x) {
  if (f == Activation::kIdentity) return x;
  return f == Activation::kTanh ? std::tanh(x) : x / (1 + std::exp(-x));
}

constexpr Activation kActivations[] = {Activation::kSilu, Activation::kTanh,
                                       Activation::kIdentity};

// Experts of one to three tokens; the second leaves most bases out.
struct Jobs {
  explicit Jobs(const PackedBases& b, int64_t count = 3) {
    for (int64_t e = 0; e < count; ++e) {
      alpha.push_back(Random(b.num_bases));
      x.push_back(Random((e + 1) * b.cols));
      u.emplace_back((e + 1) * b.rank, 0);
      for (int64_t i = 0; e == 1 && i < b.num_bases; ++i) {
        if (i % 6 != 5) alpha.back()[i] = 0;
      }
    }
    for (int64_t e = 0; e < count; ++e) {
      const auto at = static_cast<size_t>(e);
      jobs.push_back({alpha[at].data(), x[at].data(), e + 1, u[at].data()});
    }
  }
  std::vector<Floats> alpha, x, u;
  std::vector<MixJob> jobs;
};

struct Sizes {
  int64_t num_bases, rank, cols;
};
constexpr Sizes kSizes[] = {{1, 3, 1},    {3, 5, 15},   {4, 1, 16},
                            {5, 2, 17},   {32, 3, 256}, {33, 2, 300},
                            {100, 3, 77}, {128, 2, 531}};

// The error is at most half a step, which is the largest number of the group
// over 127 but for the scale's own rounding.
TEST(PackedBasesTest, RoundsToTheNearestCode) {
  for (const auto [m, rank, cols] : kSizes) {
    const SomeBases bases(m, rank, cols);
    for (int64_t at = 0; at < bases.given.size(); ++at) {
      const int64_t row = at / cols;
      const int64_t first = at % cols / kBasesGroup * kBasesGroup;
      float largest = 0;
      for (int64_t c = first; c < std::min(first + kBasesGroup, cols); ++c) {
        largest = std::max(largest, std::abs(bases.given[row * cols + c]));
      }
      const float step = largest / 127 * (1 + 0x1p-8f);
      EXPECT_LE(std::abs(bases.given[at] - bases.values[at]), 0.501f * step)
          << m << " " << at;
    }
  }
}

TEST(PackedBasesTest, PartsAreThoseOfTheWhole) {
  SomeBases bases(5, 3, 300);
  const PackedBases view = bases.view();
  for (const int64_t first : {0, 1, 299, 300, 700, 2000}) {
    Floats part(900, 0);
    DecodePlanes(RowOf(NumberFormat::kInt8), bases.shape(),
                 static_cast<const std::byte*>(view.codes),
                 static_cast<const std::byte*>(view.scales), first, part.size(),
                 part.data());
    for (int64_t i = 0; i < part.size(); ++i) {
      ASSERT_EQ(part[i], bases.values[first + i]) << first << " " << i;
    }
  }
}

// Zeros, numbers too small for a scale, and the largest.
TEST(PackedBasesTest, Extremes) {
  for (const float size : {0.0f, 1e-38f, 1e36f}) {
    const SomeBases bases(2, 1, 20, size);
    for (int64_t i = 0; i < bases.given.size(); ++i) {
      const float want = size < 1 ? 0 : bases.given[i];
      EXPECT_NEAR(bases.values[i] / 1e36, want / 1e36, 0.02) << size;
    }
  }
}

TEST(PackedBasesTest, ShapesOfPlanes) {
  const FormatRow& int8 = RowOf(NumberFormat::kInt8);
  const auto shapes = PlaneShapesOf(int8, {5, 3, 300});
  ASSERT_TRUE(shapes);
  EXPECT_THAT(shapes->codes, testing::ElementsAre(3, 19, 2 * 64));
  EXPECT_THAT(shapes->scales, testing::ElementsAre(3, 2, 5));
  EXPECT_FALSE(PlaneShapesOf(int8, {kMostPackedBases + 1, 3, 300}));
  // As a matrix of 15 rows.
  const auto rows = PlaneShapesOf(RowOf(NumberFormat::kInt4), {5, 3, 300});
  ASSERT_TRUE(rows);
  EXPECT_THAT(rows->codes, testing::ElementsAre(1, 76 * 32));
  EXPECT_THAT(rows->scales, testing::ElementsAre(1, 10, 16));
  EXPECT_FALSE(PlaneShapesOf(RowOf(NumberFormat::kBF16), {3, 300}));
}

class PackedMixTest : public testing::TestWithParam<PackedMixSet> {};

INSTANTIATE_TEST_SUITE_P(Sets, PackedMixTest,
                         testing::ValuesIn(SupportedPackedMixes()),
                         [](const auto& set) {
                           return std::string(set.param.name);
                         });

// Alphas are rounded by half of t, so that a mix is off by at most t / 2 times
// the codes; f is at most 1.1 times as steep.
TEST_P(PackedMixTest, IsTheMixAndTheProduct) {
  for (const auto [m, rank, cols] : kSizes) {
    const SomeBases bases(m, rank, cols);
    for (const Activation f : kActivations) {
      Jobs jobs(bases.view());
      MultiplyPackedMix(GetParam(), bases.view(), f, jobs.jobs, 0, rank);
      for (const MixJob& job : jobs.jobs) {
        for (int64_t r = 0; r < rank; ++r) {
          std::vector<double> want(static_cast<size_t>(job.tokens));
          std::vector<double> bound(static_cast<size_t>(job.tokens));
          for (int64_t c = 0; c < cols; ++c) {
            double mix = 0;
            double size = 0;
            double largest = 0;
            double codes = 0;
            for (int64_t i = 0; i < m; ++i) {
              const double alpha = job.alpha[i];
              if (alpha == 0) continue;
              const double value = bases.values[(i * rank + r) * cols + c];
              const double scale = bases.Scale(i, r, c);
              mix += alpha * value;
              size += std::abs(alpha * value);
              largest = std::max(largest, std::abs(alpha * scale));
              codes += std::abs(value / scale);
            }
            const double n = ActivateDouble(f, mix);
            const double off = 1.1 * largest / kMostAlpha / 2 * codes +
                               8 * kEps * (size + std::abs(n));
            for (int64_t t = 0; t < job.tokens; ++t) {
              const double x = job.x[t * cols + c];
              want[static_cast<size_t>(t)] += n * x;
              bound[static_cast<size_t>(t)] +=
                  (off + 16 * kEps * std::abs(n)) * std::abs(x);
            }
          }
          for (int64_t t = 0; t < job.tokens; ++t) {
            ASSERT_NEAR(job.u[t * rank + r], want[static_cast<size_t>(t)],
                        bound[static_cast<size_t>(t)])
                << m << " " << cols << " " << ActivationName(f);
          }
        }
      }
    }
  }
}

TEST_P(PackedMixTest, GivesTheBitsOfTheSpecification) {
  const PackedMixSet& scalar = SupportedPackedMixes().back();
  for (const float size : {1.0f, 1e-3f, 100.0f, 1e9f}) {
    for (const auto [m, rank, cols] : kSizes) {
      const SomeBases bases(m, rank, cols, size);
      for (const Activation f : kActivations) {
        Jobs jobs(bases.view());
        MultiplyPackedMix(scalar, bases.view(), f, jobs.jobs, 0, rank);
        const std::vector<Floats> want = jobs.u;
        MultiplyPackedMix(GetParam(), bases.view(), f, jobs.jobs, 0, rank);
        EXPECT_TRUE(jobs.u == want) << m << " " << cols << " " << size;
        Floats n(rank * cols, 0);
        Floats same(rank * cols, 1);
        const float* alpha = jobs.jobs.front().alpha;
        StorePackedMix(scalar, bases.view(), alpha, f, 0, rank, 0, cols,
                       n.data());
        StorePackedMix(GetParam(), bases.view(), alpha, f, 0, rank, 0, cols,
                       same.data());
        EXPECT_TRUE(n == same) << m << " " << cols << " " << size;
      }
    }
  }
}

// Rows, columns, experts and tokens by themselves are those of the whole.
TEST_P(PackedMixTest, PartsAreThoseOfTheWhole) {
  constexpr int64_t kRank = 5;
  constexpr int64_t kCols = 700;
  const SomeBases bases(9, kRank, kCols);
  Jobs jobs(bases.view());
  const Activation f = Activation::kSilu;
  MultiplyPackedMix(GetParam(), bases.view(), f, jobs.jobs, 0, kRank);
  const std::vector<Floats> whole = jobs.u;
  for (Floats& u : jobs.u) std::fill_n(u.data(), u.size(), kNan);
  for (const MixJob& job : jobs.jobs) {
    for (int64_t row = 0; row < kRank; ++row) {
      for (int64_t t = 0; t < job.tokens; ++t) {
        const MixJob one = {job.alpha, job.x + t * kCols, 1, job.u + t * kRank};
        MultiplyPackedMix(GetParam(), bases.view(), f, {&one, 1}, row, 1);
      }
    }
  }
  EXPECT_TRUE(jobs.u == whole);

  Floats n(kRank * kCols, 0);
  StorePackedMix(GetParam(), bases.view(), jobs.jobs[2].alpha, f, 0, kRank, 0,
                 kCols, n.data());
  Floats part(2 * 444, 0);
  StorePackedMix(GetParam(), bases.view(), jobs.jobs[2].alpha, f, 3, 2, 256,
                 444, part.data());
  for (int64_t i = 0; i < part.size(); ++i) {
    ASSERT_EQ(part[i], n[(3 + i / 444) * kCols + 256 + i % 444]);
  }
}

// A basis without weight counts for nothing, whatever its scales; any other
// that is not finite shows.
TEST_P(PackedMixTest, NotFinite) {
  SomeBases bases(6, 2, 40);
  Jobs jobs(bases.view(), 2);
  const auto run = [&] {
    MultiplyPackedMix(GetParam(), bases.view(), Activation::kTanh, jobs.jobs, 0,
                      2);
    return jobs.u;
  };
  const std::vector<Floats> before = run();
  bases.SetScales(4, kNan);  // the second expert has basis 5 alone
  const std::vector<Floats> after = run();
  EXPECT_TRUE(after[1] == before[1]);
  for (int64_t i = 0; i < after[0].size(); ++i) {
    EXPECT_TRUE(std::isnan(after[0][i]));
  }
  bases.SetScales(4, 1);
  jobs.alpha[1][5] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isnan(run()[1][0]));
}

// The largest sums that there can be: all codes and alphas at their ends.
TEST_P(PackedMixTest, LargestSums) {
  for (const int64_t m : {int64_t{128}, kMostPackedBases}) {
    SomeBases bases(m, 1, 20);
    std::fill_n(bases.codes().data(), bases.codes().size(), std::byte{255});
    for (int64_t i = 0; i < m; ++i) bases.SetScales(i, 1);
    const Floats alpha = [&] {
      Floats same(m, 0);
      std::fill_n(same.data(), m, -0.5f);
      return same;
    }();
    Floats n(20, 0);
    StorePackedMix(GetParam(), bases.view(), alpha.data(),
                   Activation::kIdentity, 0, 1, 0, 20, n.data());
    for (int64_t i = 0; i < 20; ++i) {
      EXPECT_FLOAT_EQ(n[i], -0.5f * 127 * static_cast<float>(m));
    }
  }
}

}  // namespace
}  // namespace mobe::packed_mix_test
