#include "compress/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "base/parallel.h"
#include "compress/split_curve.h"
#include "mobe/sizes.h"
#include "mobe/testing.h"

namespace mobe {
namespace {

using Choices = std::vector<std::vector<SplitChoice>>;

// damage = scale * 2^-size, and whole at `whole`.
std::vector<SplitChoice> Falling(double scale, int64_t whole) {
  std::vector<SplitChoice> choices = {{0, 0, whole, 0}};
  for (int64_t size = 1; size < whole; ++size) {
    choices.push_back(
        {size, 1, size, scale * std::exp2(static_cast<double>(-size))});
  }
  return choices;
}

struct Total {
  int64_t size = 0;
  double damage = 0;
};
Total TotalOf(const Choices& choices, const std::vector<size_t>& chosen) {
  Total total;
  for (size_t i = 0; i < choices.size(); ++i) {
    total.size += choices[i][chosen[i]].size;
    total.damage += choices[i][chosen[i]].damage;
  }
  return total;
}

// Random sizes and damages, whatever their order.
Choices RandomChoices(uint64_t seed, size_t matrices, size_t each) {
  std::mt19937_64 random(seed);
  Choices choices(matrices);
  for (auto& all : choices) {
    for (size_t i = 0; i < each; ++i) {
      all.push_back({1, 1, static_cast<int64_t>(random() % 50 + 1),
                     static_cast<double>(random() % 1000)});
    }
  }
  return choices;
}

// The least damage of all choices within the budget.
double LeastDamage(const Choices& choices, int64_t budget, size_t from = 0) {
  if (budget < 0) return std::numeric_limits<double>::infinity();
  if (from == choices.size()) return 0;
  double least = std::numeric_limits<double>::infinity();
  for (const SplitChoice& choice : choices[from]) {
    least = std::min(
        least,
        choice.damage + LeastDamage(choices, budget - choice.size, from + 1));
  }
  return least;
}

TEST(AllocateSplitTest, EqualMatricesGetEqualShapes) {
  const Choices choices(5, Falling(1, 20));
  EXPECT_EQ(AllocateSplit(choices, 35), std::vector<size_t>(5, 7));
}

// A scale of 2^k is worth k more numbers: the gains are then equal.
TEST(AllocateSplitTest, MoreForTheSensitive) {
  const Choices choices = {Falling(1, 100), Falling(8, 100), Falling(64, 100)};
  EXPECT_EQ(AllocateSplit(choices, 24), (std::vector<size_t>{5, 8, 11}));
}

TEST(AllocateSplitTest, WholeWhereTheRestSavesLess) {
  // The last step to zero is off the curve's hull until here.
  const Choices choices = {Falling(1, 9), Falling(1000, 9)};
  const auto chosen = AllocateSplit(choices, 11);
  EXPECT_EQ(chosen, (std::vector<size_t>{2, 0}));
}

TEST(AllocateSplitTest, EverythingWholeWhenItFits) {
  const Choices choices(3, Falling(1, 9));
  EXPECT_EQ(AllocateSplit(choices, 27), std::vector<size_t>(3, 0));
}

// Never above the budget, and no further from the optimum than one step along
// a hull, the largest saving of any pair of choices.
TEST(AllocateSplitTest, WithinBudgetAndNearTheOptimum) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Choices choices = RandomChoices(seed, 5, 6);
    for (const int64_t budget : {60, 90, 140, 250}) {
      const double optimum = LeastDamage(choices, budget);
      if (std::isinf(optimum)) {
        EXPECT_ANY_THROW(AllocateSplit(choices, budget));
        continue;
      }
      const Total total = TotalOf(choices, AllocateSplit(choices, budget));
      EXPECT_LE(total.size, budget) << seed;
      EXPECT_GE(total.damage, optimum);
      EXPECT_LE(total.damage, optimum + 1000) << seed << " " << budget;
    }
  }
}

// On convex curves with equal steps greedy is exact.
TEST(AllocateSplitTest, ExactOnConvexCurves) {
  for (int64_t budget = 3; budget <= 30; ++budget) {
    const Choices choices = {Falling(1, 10), Falling(3, 10), Falling(50, 10)};
    const Total total = TotalOf(choices, AllocateSplit(choices, budget));
    // The step to whole is the only one that isn't convex.
    EXPECT_LE(total.damage, 1.3 * LeastDamage(choices, budget)) << budget;
  }
}

TEST(AllocateSplitTest, MoreBudgetDoesNoMoreDamage) {
  const Choices choices = {Falling(1, 30), Falling(7, 30), Falling(90, 30)};
  double last = std::numeric_limits<double>::infinity();
  for (int64_t budget = 3; budget <= 90; ++budget) {
    const double damage =
        TotalOf(choices, AllocateSplit(choices, budget)).damage;
    EXPECT_LE(damage, last) << budget;
    last = damage;
  }
}

TEST(AllocateSplitTest, RefusesWhatCannotBe) {
  ExpectError(ErrorKind::kUserInput,
              "the smallest shapes that an automatic split tries take 3 "
              "numbers, 2 are asked for",
              [] { AllocateSplit(Choices(3, Falling(1, 9)), 2); });
}

TEST(ErrorCurveTest, ProbesOfEverySize) {
  for (const int64_t experts : {1, 2, 4, 16, 60, 256}) {
    for (const int64_t width : {1, 8, 96, 2048}) {
      const auto probes = ErrorCurve::Probes(experts, width);
      ASSERT_FALSE(probes.empty());
      EXPECT_LE(probes.size(), 6u);
      EXPECT_EQ(probes.front().rank, width);
      for (const CurvePoint& probe : probes) {
        EXPECT_GE(probe.num_bases, 1);
        EXPECT_LE(probe.num_bases, experts);
        EXPECT_GE(probe.rank, 1);
      }
    }
  }
}

// It goes through its probes, and between them within 6% of what was measured
// (bundled model, layer 2 gate, 40 passes).
TEST(ErrorCurveTest, InterpolatesWhatWasMeasured) {
  std::vector<CurvePoint> probes = ErrorCurve::Probes(32, 96);
  const double errors[] = {0.08347, 0.03892, 0.0168, 0.14502, 0.09268, 0.05671};
  ASSERT_EQ(probes.size(), std::size(errors));
  for (size_t i = 0; i < probes.size(); ++i) probes[i].error = errors[i];
  const ErrorCurve curve(probes);
  for (const CurvePoint& probe : probes) {
    EXPECT_NEAR(curve.At(probe.num_bases, probe.rank), probe.error, 1e-12);
  }
  const CurvePoint measured[] = {
      {4, 96, 0.06443}, {12, 96, 0.02532}, {4, 64, 0.12426},  {12, 64, 0.07148},
      {2, 80, 0.1091},  {8, 80, 0.06062},  {12, 80, 0.04323}, {8, 48, 0.14279}};
  for (const CurvePoint& point : measured) {
    EXPECT_NEAR(curve.At(point.num_bases, point.rank) / point.error, 1, 0.06)
        << point.num_bases << " x " << point.rank;
  }
}

TEST(ErrorCurveTest, NeverRises) {
  std::vector<CurvePoint> probes = ErrorCurve::Probes(32, 96);
  const double errors[] = {0.1, 0.2, 0.0, 0.05, 2.0, 0.01};  // of bad fits
  for (size_t i = 0; i < probes.size(); ++i) probes[i].error = errors[i];
  const ErrorCurve curve(probes);
  for (int64_t m = 1; m <= 20; ++m) {
    for (int64_t r = 48; r <= 96; ++r) {
      const double error = curve.At(m, r);
      EXPECT_GT(error, 0);
      EXPECT_LE(error, 1);
      // But for rounding where it is flat.
      EXPECT_LE(error, curve.At(m - 1, r) * (1 + 1e-12));
      EXPECT_LE(error, curve.At(m, r - 1) * (1 + 1e-12));
    }
  }
}

// Damage that has nothing to do with the replacement: so much for a layer, five
// times that for down.
std::vector<double> FakeDamage(const std::vector<LayerKind>& matrices,
                               const ReplaceFn& replace, const ProgressFn&) {
  std::vector<double> damages;
  for (const LayerKind& matrix : matrices) {
    replace(matrix.layer, *matrix.kind);
    damages.push_back(matrix.kind == &kDownKind ? 5 : 1);
  }
  return damages;
}

std::vector<FactorShape> Choose(double ratio) {
  const OpenedModel model = OpenModel(SmallModel());
  CompressOptions options;
  options.split = Split::kAuto;
  options.kinds = {&kGateKind, &kUpKind, &kDownKind};
  options.ratio = ratio;
  return ChooseShapes(model, options, {}, FakeDamage,
                      [](const ProgressEvent&) {});
}

TEST(ChooseShapesTest, KeepsToTheRatioAndPrefersTheSensitive) {
  const OpenedModel model = OpenModel(SmallModel());
  for (const double ratio : {0.6, 0.75, 0.9}) {
    const std::vector<FactorShape> shapes = Choose(ratio);
    const CompressPlan plan = PlanCompression(model, {}, shapes);
    EXPECT_LE(plan.ratios.experts, ratio);
    EXPECT_GT(plan.ratios.experts, ratio - 0.02);
    int64_t of_kind[3] = {0, 0, 0};
    for (const int64_t layer : {1, 2}) {
      for (size_t k = 0; k < 3; ++k) {
        const FactorShape* shape = plan.format.Find(layer, kMatrixKinds[k]);
        of_kind[k] += shape == nullptr ? MatricesSize(model.config)
                                       : FactorsSize(model.config, *shape);
      }
    }
    EXPECT_GT(of_kind[2], of_kind[0]) << ratio;
    EXPECT_GT(of_kind[2], of_kind[1]) << ratio;
  }
}

TEST(ChooseShapesTest, TheSameOnAnyNumberOfThreads) {
  SetThreads(1);
  const std::vector<FactorShape> expected = Choose(0.7);
  SetThreads(3);
  EXPECT_EQ(Choose(0.7), expected);
  SetThreads(0);
}

// By sizes alone, before anything is measured.
TEST(ChooseShapesTest, RefusesImpossibleRatios) {
  const OpenedModel model = OpenModel(SmallModel());
  const auto choose = [&](const CompressOptions& options) {
    ChooseShapes(
        model, options, {},
        [](const auto&, const auto&, const auto&) -> std::vector<double> {
          throw std::logic_error("measured");
        },
        [](const ProgressEvent&) {});
  };
  CompressOptions options;
  options.kinds = {&kGateKind, &kUpKind, &kDownKind};
  for (const double ratio : {1.0, 0.1}) {
    options.ratio = ratio;
    ExpectError(ErrorKind::kUserInput,
                fmt::format("--ratio {}: with these kinds an automatic split "
                            "needs at least 0.",
                            ratio),
                [&] { choose(options); });
  }
  options.kinds = {&kGateKind};  // a third of the weights
  options.ratio = 0.5;
  ExpectError(ErrorKind::kUserInput, "needs at least 0.7",
              [&] { choose(options); });
  options.ratio = 0.9;
  EXPECT_THROW(choose(options), std::logic_error);
}

TEST(ChooseShapesTest, Stops) {
  const OpenedModel model = OpenModel(SmallModel());
  CompressOptions options;
  options.stop = [] { return true; };
  EXPECT_THROW(
      ChooseShapes(model, options, {}, FakeDamage, [](const ProgressEvent&) {}),
      Stopped);
}

}  // namespace
}  // namespace mobe
