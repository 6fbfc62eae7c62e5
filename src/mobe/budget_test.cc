#include "mobe/budget.h"

#include <gtest/gtest.h>

#include "mobe/testing.h"

namespace mobe {
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

// Qwen3-30B's gate. By hand, in n p r d: products 8, solving 0.875, mixing
// 0.25, metric: 16 experts 1.14, its inverses 0.06, its use 1.85.
TEST(BudgetTest, OperationsOfAPass) {
  const FitShape shape{128, 768, 2048, 768, 32};
  const double nprd = 128.0 * 768 * 768 * 2048;
  const double pass = OperationsOf(shape, Solver::kFast).pass;
  EXPECT_NEAR(pass / nprd, 12.17, 0.02);
  // Of the reference: three products, and mixing in three.
  EXPECT_DOUBLE_EQ(OperationsOf(shape, Solver::kReference).pass,
                   6 * nprd + 6.0 * 128 * 32 * 768 * 2048);
  // But for the mixing and the metric, which sees as many experts, linear in
  // their number.
  FitShape half = shape;
  half.experts /= 2;
  half.num_bases /= 2;
  const double part = OperationsOf(half, Solver::kFast).pass / pass;
  EXPECT_GT(part, 0.5);
  EXPECT_LT(part, 0.55);
  EXPECT_DOUBLE_EQ(OperationsOf(half, Solver::kReference).fixed * 2,
                   OperationsOf(shape, Solver::kReference).fixed);
}

TEST(BudgetTest, SmallFitsAreProbedWhole) {
  const ProbeSize size =
      ProbeSizeOf({32, 96, 256, 96, 8}, Solver::kFast, /*threads=*/2);
  EXPECT_EQ(size.experts, 32);
  EXPECT_EQ(size.num_bases, 8);
  EXPECT_EQ(size.passes, 100);
}

TEST(BudgetTest, LargeFitsAreProbedInPart) {
  const FitShape shape{256, 2048, 7168, 2048, 64};  // of DeepSeek-V3
  for (const int64_t threads : {1, 2, 16, 64, 500}) {
    const ProbeSize size = ProbeSizeOf(shape, Solver::kFast, threads);
    // Whole groups, for every thread.
    EXPECT_GE(size.num_bases, std::min<int64_t>(threads, 64));
    EXPECT_EQ(size.experts, 4 * size.num_bases);
    EXPECT_EQ(size.passes, 3);
  }
  EXPECT_EQ(ProbeSizeOf(shape, Solver::kFast, 2).experts, 8);
}

TEST(BudgetTest, TimeBecomesPasses) {
  FitCost cost;
  cost.pass_seconds = 0.5;
  cost.fixed_seconds = 3;
  EXPECT_EQ(PassesWithin(12 * (3 + 0.5 * 100), cost, 12), 100);
  EXPECT_EQ(PassesWithin(12 * (3 + 0.5 * 100) - 1, cost, 12), 99);
  EXPECT_EQ(PassesWithin(20, cost, 12), 1);  // not even the start fits
  EXPECT_EQ(PassesWithin(-5, cost, 12), 1);
  cost.pass_seconds = 0;  // below the clock's resolution
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
  const FitCost cost = ProbeFit(target, options, [&] { ++calls; });
  EXPECT_EQ(cost.passes, 100);
  EXPECT_EQ(cost.experts, 4);
  EXPECT_EQ(calls, 100);
  EXPECT_GT(cost.pass_seconds, 0);
  EXPECT_GE(cost.fixed_seconds + 100 * cost.pass_seconds,
            cost.seconds * (1 - 1e-9));
  struct Enough {};
  EXPECT_THROW(ProbeFit(target, options, [] { throw Enough(); }), Enough);
}

}  // namespace
}  // namespace mobe
