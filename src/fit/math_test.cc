// The parts of the fit, each against a plain formula in double.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "fit/fit.h"

namespace mobe::math_test {
namespace {

Buffer<float> Random(int64_t size, uint64_t seed, float scale = 1) {
  Buffer<float> values(size);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, scale);
  for (float& value : values) value = normal(random);
  return values;
}

double Apply(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kIdentity:
      return x;
  }
  return 0;
}

// Sizes over one range of columns, so that the sum over ranges is tested too.
constexpr int64_t kExperts = 5;
constexpr int64_t kBases = 3;
constexpr int64_t kSize = 20'000;

TEST(MixTest, MixBases) {
  const Buffer<float> alpha = Random(kExperts * kBases, 1);
  const Buffer<float> bases = Random(kBases * kSize, 2);
  Buffer<float> mix(kExperts * kSize);
  internal::MixBases(alpha.data(), bases.data(), kExperts, kBases, kSize,
                     mix.data());
  for (int64_t e = 0; e < kExperts; ++e) {
    for (int64_t k = 0; k < kSize; ++k) {
      double sum = 0;
      for (int64_t i = 0; i < kBases; ++i) {
        sum +=
            static_cast<double>(alpha[e * kBases + i]) * bases[i * kSize + k];
      }
      ASSERT_NEAR(mix[e * kSize + k], sum, 1e-5) << e << " " << k;
    }
  }
}

// L = sum of weight * mix is linear in each of alpha and the bases, so central
// differences of any width give its gradient.
TEST(MixTest, MixBackwardIsTheGradient) {
  Buffer<float> alpha = Random(kExperts * kBases, 1);
  Buffer<float> bases = Random(kBases * kSize, 2);
  const Buffer<float> weight = Random(kExperts * kSize, 3);
  Buffer<float> d_bases(kBases * kSize);
  Buffer<float> d_alpha(kExperts * kBases);
  internal::MixBackward(alpha.data(), bases.data(), weight.data(), kExperts,
                        kBases, kSize, 0.0f, d_bases.data(), d_alpha.data());
  const auto loss = [&](int64_t first, int64_t last) {
    double sum = 0;
    for (int64_t e = 0; e < kExperts; ++e) {
      for (int64_t k = first; k < last; ++k) {
        double mix = 0;
        for (int64_t i = 0; i < kBases; ++i) {
          mix +=
              static_cast<double>(alpha[e * kBases + i]) * bases[i * kSize + k];
        }
        sum += mix * weight[e * kSize + k];
      }
    }
    return sum;
  };
  const auto difference = [&](float* value, int64_t first, int64_t last) {
    const float before = *value;
    *value = before + 1;
    const double above = loss(first, last);
    *value = before - 1;
    const double below = loss(first, last);
    *value = before;
    return (above - below) / 2;
  };
  for (int64_t i = 0; i < kExperts * kBases; ++i) {
    EXPECT_NEAR(d_alpha[i], difference(&alpha[i], 0, kSize), 1e-2) << i;
  }
  // A basis element reaches one column only.
  for (int64_t i = 0; i < kBases * kSize; i += 97) {
    const int64_t k = i % kSize;
    EXPECT_NEAR(d_bases[i], difference(&bases[i], k, k + 1), 1e-5) << i;
  }
}

TEST(AdamTest, FollowsTheFormula) {
  constexpr int64_t kCount = 1000;
  Buffer<float> value = Random(kCount, 1);
  std::vector<double> expected(value.begin(), value.end());
  std::vector<double> first(kCount);
  std::vector<double> second(kCount);
  internal::Adam adam(kCount);
  for (int64_t step = 1; step <= 20; ++step) {
    const Buffer<float> gradient = Random(kCount, 100 + step, 1e-4f);
    const double rate = 0.07 / static_cast<double>(step);
    adam.Step(step, rate, gradient.data(), value.data());
    const auto t = static_cast<double>(step);
    for (int64_t i = 0; i < kCount; ++i) {
      const double g = gradient[i];
      first[i] = 0.9 * first[i] + 0.1 * g;
      second[i] = 0.999 * second[i] + 0.001 * g * g;
      expected[i] -= rate * first[i] / (1 - std::pow(0.9, t)) /
                     (std::sqrt(second[i] / (1 - std::pow(0.999, t))) + 1e-8);
    }
  }
  for (int64_t i = 0; i < kCount; ++i) {
    EXPECT_NEAR(value[i], expected[i], 1e-5) << i;
  }
}

TEST(RoundToTest, IsWhatAReaderSees) {
  const float third = 1.0f / 3;
  const auto rounded = [&](DType dtype) {
    Buffer<float> values(2);
    values[0] = third;
    values[1] = -2.5f;
    RoundTo(dtype, &values);
    EXPECT_EQ(values[1], -2.5f);
    return values[0];
  };
  EXPECT_EQ(rounded(DType::kF32), third);
  EXPECT_EQ(rounded(DType::kBF16), ToFloat(ToBFloat16(third)));
  EXPECT_EQ(rounded(DType::kF16), HalfToFloat(FloatToHalf(third)));
  EXPECT_NE(rounded(DType::kF16), rounded(DType::kBF16));
}

constexpr int64_t kRows = 6;
constexpr int64_t kCols = 11;
constexpr int64_t kRank = 4;

FitTarget RandomTarget() {
  FitTarget target;
  target.experts = kExperts;
  target.rows = kRows;
  target.cols = kCols;
  target.weights = Random(kExperts * kRows * kCols, 4);
  target.scale = 0.5;
  return target;
}

Factors RandomFactors(Activation activation) {
  Factors factors;
  factors.num_bases = kBases;
  factors.rank = kRank;
  factors.activation = activation;
  factors.a = Random(kExperts * kRows * kRank, 5);
  factors.bases = Random(kBases * kRank * kCols, 6);
  factors.alpha = Random(kExperts * kBases, 7);
  return factors;
}

// A f(sum_i alpha_i B_i), element by element.
std::vector<double> Product(const Factors& f, int64_t expert) {
  std::vector<double> active(kRank * kCols);
  for (size_t j = 0; j < active.size(); ++j) {
    double mix = 0;
    for (int64_t i = 0; i < kBases; ++i) {
      mix += static_cast<double>(f.alpha[expert * kBases + i]) *
             f.bases[i * kRank * kCols + j];
    }
    active[j] = Apply(f.activation, mix);
  }
  std::vector<double> product(kRows * kCols);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t k = 0; k < kRank; ++k) {
      const double a = f.a[(expert * kRows + row) * kRank + k];
      for (int64_t col = 0; col < kCols; ++col) {
        product[row * kCols + col] += a * active[k * kCols + col];
      }
    }
  }
  return product;
}

TEST(MeasureTest, BuildAndMeasureFollowTheFormula) {
  FitTarget target = RandomTarget();
  std::fill_n(target.weights.data(), target.matrix_size(), 0.0f);
  for (const Activation activation :
       {Activation::kSilu, Activation::kTanh, Activation::kIdentity}) {
    SCOPED_TRACE(ActivationName(activation));
    const Factors factors = RandomFactors(activation);
    Buffer<float> scratch;
    Buffer<float> built(kRows * kCols);
    double error = 0;
    double norm = 0;
    double worst = 0;
    int64_t worst_index = -1;
    for (int64_t e = 0; e < kExperts; ++e) {
      const std::vector<double> product = Product(factors, e);
      BuildExpert(factors, e, kRows, kCols, &scratch, built.data());
      double expert_error = 0;
      double expert_norm = 0;
      for (int64_t i = 0; i < kRows * kCols; ++i) {
        EXPECT_NEAR(built[i], product[i], 1e-4);
        const double w = target.matrix(e)[i];
        expert_error += (w - product[i]) * (w - product[i]);
        expert_norm += w * w;
      }
      error += expert_error;
      norm += expert_norm;
      // Expert 0 is zero: its error is an absolute one.
      const double relative =
          std::sqrt(expert_error / (e == 0 ? 1 : expert_norm));
      if (relative > worst) {
        worst = relative;
        worst_index = e;
      }
    }
    const FitError measured = MeasureFit(target, factors);
    const auto count = static_cast<double>(target.weights.size());
    EXPECT_NEAR(measured.scaled_mse / (error / 0.25 / count), 1, 1e-5);
    EXPECT_NEAR(measured.relative / std::sqrt(error / norm), 1, 1e-5);
    EXPECT_NEAR(measured.worst_expert / worst, 1, 1e-5);
    EXPECT_EQ(measured.worst_expert_index, worst_index);
  }
}

TEST(MeasureTest, NanIsTheWorstWhereverItIs) {
  const FitTarget target = RandomTarget();
  for (int64_t bad = 0; bad < kExperts; ++bad) {
    Factors factors = RandomFactors(Activation::kSilu);
    factors.a[bad * kRows * kRank] = std::numeric_limits<float>::quiet_NaN();
    const FitError error = MeasureFit(target, factors);
    EXPECT_TRUE(std::isnan(error.worst_expert)) << bad;
    EXPECT_EQ(error.worst_expert_index, bad);
    EXPECT_TRUE(std::isnan(error.scaled_mse));
  }
}

// 5 experts in 2 groups, of 2 and 3.
TEST(GroupedSvdTest, BasesAreTheLeadingRightSingularVectors) {
  const FitTarget target = RandomTarget();
  constexpr int64_t kGroups = 2;
  const internal::SvdStart start = internal::GroupedSvd(
      target.weights.data(), kExperts, kRows, kCols, kGroups, kRank);
  EXPECT_EQ(start.group, (std::vector<int64_t>{0, 0, 1, 1, 1}));
  for (int64_t group = 0; group < kGroups; ++group) {
    const float* basis = start.bases.data() + group * kRank * kCols;
    // Gram matrix W^T W of the group's stacked experts.
    std::vector<double> gram(kCols * kCols);
    for (int64_t e = 0; e < kExperts; ++e) {
      if (start.group[e] != group) continue;
      for (int64_t row = 0; row < kRows; ++row) {
        const float* w = target.matrix(e) + row * kCols;
        for (int64_t i = 0; i < kCols; ++i) {
          for (int64_t j = 0; j < kCols; ++j) {
            gram[i * kCols + j] += static_cast<double>(w[i]) * w[j];
          }
        }
        // A are the coordinates in the basis: its rows of U S.
        for (int64_t k = 0; k < kRank; ++k) {
          double dot = 0;
          for (int64_t i = 0; i < kCols; ++i) {
            dot += static_cast<double>(w[i]) * basis[k * kCols + i];
          }
          EXPECT_NEAR(start.a[(e * kRows + row) * kRank + k], dot, 1e-4);
        }
      }
    }
    double smallest = std::numeric_limits<double>::infinity();
    for (int64_t k = 0; k < kRank; ++k) {
      const float* b = basis + k * kCols;
      for (int64_t l = 0; l < kRank; ++l) {
        double dot = 0;
        for (int64_t i = 0; i < kCols; ++i) {
          dot += static_cast<double>(b[i]) * basis[l * kCols + i];
        }
        EXPECT_NEAR(dot, k == l ? 1 : 0, 1e-5);
      }
      // An eigenvector: G b = value b.
      std::vector<double> image(kCols);
      double value = 0;
      for (int64_t i = 0; i < kCols; ++i) {
        for (int64_t j = 0; j < kCols; ++j) {
          image[i] += gram[i * kCols + j] * b[j];
        }
        value += image[i] * b[i];
      }
      for (int64_t i = 0; i < kCols; ++i) {
        EXPECT_NEAR(image[i], value * b[i], 1e-3);
      }
      EXPECT_LE(value, smallest + 1e-3) << "not in order";
      smallest = value;
    }
    // What is left has no larger eigenvalue: power iteration finds its largest.
    std::vector<double> x(kCols, 1);
    double largest = 0;
    for (int step = 0; step < 2000; ++step) {
      for (int64_t k = 0; k < kRank; ++k) {
        double dot = 0;
        for (int64_t i = 0; i < kCols; ++i) dot += x[i] * basis[k * kCols + i];
        for (int64_t i = 0; i < kCols; ++i) x[i] -= dot * basis[k * kCols + i];
      }
      std::vector<double> image(kCols);
      double length = 0;
      for (int64_t i = 0; i < kCols; ++i) {
        for (int64_t j = 0; j < kCols; ++j) {
          image[i] += gram[i * kCols + j] * x[j];
        }
        length += image[i] * image[i];
      }
      largest = std::sqrt(length);
      for (int64_t i = 0; i < kCols; ++i) x[i] = image[i] / largest;
    }
    EXPECT_LE(largest, smallest + 1e-3);
    EXPECT_GT(largest, 0.1);
  }
}

// Where a group has no more than `rank` directions worth naming, the spaces
// hold them all, however unlike their weights are.
TEST(GroupedSpacesTest, HoldTheDirectionsOfAGroup) {
  constexpr int64_t kGroups = 2;
  const FitTarget directions = RandomTarget();
  for (const double decay : {1.0, 0.1}) {
    FitTarget target = RandomTarget();
    for (int64_t row = 0; row < kExperts * kRows; ++row) {
      float* w = target.weights.data() + row * kCols;
      for (int64_t i = 0; i < kCols; ++i) w[i] *= 1e-6f;  // noise
      for (int64_t k = 0; k < kRank; ++k) {
        const double c = static_cast<double>((row * 7 + k * 5) % 11) - 5;
        const double weight = c * std::pow(decay, static_cast<double>(k));
        for (int64_t i = 0; i < kCols; ++i) {
          w[i] +=
              static_cast<float>(weight * directions.weights[k * kCols + i]);
        }
      }
    }
    const Buffer<float> bases =
        internal::GroupedSpaces(target, kGroups, kRank, 0);
    for (int64_t group = 0; group < kGroups; ++group) {
      const float* basis = bases.data() + group * kRank * kCols;
      const auto dot = [&](const float* x, int64_t row) {
        double sum = 0;
        for (int64_t i = 0; i < kCols; ++i) {
          sum += static_cast<double>(x[i]) * basis[row * kCols + i];
        }
        return sum;
      };
      for (int64_t k = 0; k < kRank; ++k) {
        const float* row = basis + k * kCols;
        EXPECT_NEAR(dot(row, k), 1, 0.2) << decay << " " << k;
        for (int64_t l = 0; l < k; ++l) EXPECT_NEAR(dot(row, l), 0, 0.1);
        const float* direction = directions.weights.data() + k * kCols;
        double all = 0;
        double held = 0;
        for (int64_t i = 0; i < kCols; ++i) all += direction[i] * direction[i];
        for (int64_t l = 0; l < kRank; ++l) {
          held += dot(direction, l) * dot(direction, l);
        }
        EXPECT_GT(held, 0.8 * all) << decay << " " << k;
      }
    }
  }
}

}  // namespace
}  // namespace mobe::math_test
