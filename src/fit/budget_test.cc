#include "fit/budget.h"

#include <gtest/gtest.h>

#include "fit/method.h"
#include "fit/testing.h"

namespace mobe::budget_test {
namespace {

TEST(BudgetTest, PassesAndTimesApart) {
  EXPECT_EQ(ParsePasses("500").passes, 500);
  EXPECT_EQ(ParsePasses("500").seconds, 0);
  EXPECT_EQ(ParseTime("1.5m").seconds, 90);
  EXPECT_EQ(ParseTime("2h").passes, 0);
  ExpectError(ErrorKind::kUserInput,
              "--passes 2h: expected a number of passes (500)",
              [] { ParsePasses("2h"); });
  ExpectError(ErrorKind::kUserInput,
              "--time 500: expected a time (90s, 10m, 2h)",
              [] { ParseTime("500"); });
}

// Qwen3-30B's gate. By hand, in n p r d: products 7, solving 0.875, mixing
// 0.25, the metric's use 1.0 (m / n of 2 m / p, 2 and 2 d / p); a look at 16
// experts: 0.125 of d / p, 2 and p / d, and inverses 0.06.
TEST(BudgetTest, OperationsOfAPass) {
  const FitShape shape{128, 768, 2048, 768, 32};
  const double nprd = 128.0 * 768 * 768 * 2048;
  const FitParts parts = kFastSolver.operations(shape);
  EXPECT_NEAR(parts.pass / nprd, 7 + 0.875 + 0.25 + 0.021 + 0.5 + 1.333, 0.01);
  EXPECT_NEAR(parts.look / nprd, 0.125 * (2.667 + 2 + 0.375) + 0.0585, 0.01);
  // Of the reference: three products, and mixing in three.
  const FitParts reference = kReferenceSolver.operations(shape);
  EXPECT_DOUBLE_EQ(reference.pass, 6 * nprd + 6.0 * 128 * 32 * 768 * 2048);
  EXPECT_EQ(reference.look, 0);
  // Linear in the number of experts, but for bases and the metric's.
  FitShape half = shape;
  half.experts /= 2;
  half.num_bases /= 2;
  const FitParts part = kFastSolver.operations(half);
  EXPECT_NEAR(part.pass / parts.pass, 0.5, 0.02);
  EXPECT_EQ(part.look, parts.look);
  EXPECT_DOUBLE_EQ(kReferenceSolver.operations(half).fixed * 2,
                   reference.fixed);
  // Calibrated: N and the gradient go through H.
  FitShape weighed = shape;
  weighed.pairs = 65536 * 8;
  EXPECT_NEAR((kFastSolver.operations(weighed).pass - parts.pass) / nprd,
              4 * 2048.0 / 768, 1e-6);
}

// A look at each of the first 200 passes, then at every fourth.
TEST(BudgetTest, PartsAddUp) {
  const FitParts parts{100, 10, 1};
  EXPECT_DOUBLE_EQ(parts.Total(0), 100);
  EXPECT_DOUBLE_EQ(parts.Total(200), 100 + 200 * 11);
  EXPECT_DOUBLE_EQ(parts.Total(1000), 100 + 10000 + 200 + 200);
}

TEST(BudgetTest, SmallFitsAreProbedWhole) {
  const ProbeSize size =
      ProbeSizeOf({32, 96, 256, 96, 8}, kFastSolver, /*workers=*/2);
  EXPECT_EQ(size.experts, 32);
  EXPECT_EQ(size.num_bases, 8);
  EXPECT_EQ(size.passes, 100);
}

TEST(BudgetTest, LargeFitsAreProbedInPart) {
  const FitShape shape{256, 2048, 7168, 2048, 64};  // of DeepSeek-V3
  for (const int64_t threads : {1, 2, 16, 64, 500}) {
    const ProbeSize size = ProbeSizeOf(shape, kFastSolver, threads);
    // Whole groups, for every thread.
    EXPECT_GE(size.num_bases, std::min<int64_t>(threads, 64));
    EXPECT_EQ(size.experts, 4 * size.num_bases);
    EXPECT_EQ(size.passes, 3);
  }
  EXPECT_EQ(ProbeSizeOf(shape, kFastSolver, 2).experts, 8);
}

TEST(BudgetTest, TimeBecomesPasses) {
  FitCost cost;
  cost.seconds = {3, 0.5, 0.25};
  EXPECT_EQ(PassesWithin(12 * (3 + 0.75 * 100), cost, 12), 100);
  EXPECT_EQ(PassesWithin(12 * (3 + 0.75 * 100) - 1, cost, 12), 99);
  EXPECT_EQ(PassesWithin(12 * cost.seconds.Total(1000), cost, 12), 1000);
  EXPECT_EQ(PassesWithin(20, cost, 12), 1);  // not even the start fits
  EXPECT_EQ(PassesWithin(-5, cost, 12), 1);
  cost.seconds = {3, 0, 0};  // below the clock's resolution
  EXPECT_EQ(PassesWithin(100, cost, 1), 1'000'000'000);
}

// Whatever the machine does: the parts add up to what was measured.
TEST(BudgetTest, ProbeMeasuresTheWholeFit) {
  const OneThread one_thread;
  FitTarget target;
  target.experts = 4;
  target.rows = 8;
  target.cols = 16;
  target.weights.Resize(4 * 8 * 16);
  for (int64_t i = 0; i < target.weights.size(); ++i) {
    target.weights[i] = static_cast<float>((i * 7919) % 101) / 50 - 1;
  }
  FitOptions options;
  options.num_bases = 2;
  options.rank = 8;
  int calls = 0;
  const FitShape shape{4, 8, 16, 8, 2};
  const FitCost cost = ProbeFit(target, shape, options, [&] { ++calls; });
  EXPECT_EQ(cost.passes, 100);
  EXPECT_EQ(cost.experts, 4);
  EXPECT_EQ(calls, 100);
  EXPECT_GT(cost.seconds.pass, 0);
  EXPECT_GT(cost.seconds.look, 0);
  EXPECT_GE(cost.seconds.Total(100), cost.probe_seconds * (1 - 1e-9));
  struct Enough {};
  EXPECT_THROW(ProbeFit(target, shape, options, [] { throw Enough(); }),
               Enough);
}

}  // namespace
}  // namespace mobe::budget_test
