#include "mobe/operations.h"

#include <gtest/gtest.h>

#include "compress/testing.h"

namespace mobe {
namespace {

// 16 experts of 32 x 64, 4 of them for a token, in two layers.
constexpr double kPlain = 4 * 32 * 64;

Operations CountOf(const CompressOptions& options) {
  TempFolder out;
  RunCompress(SmallModel(), options, out.path());
  return CountOperations(OpenModel(out.path()));
}

TEST(OperationsTest, PlainModel) {
  const Operations plain = CountOperations(OpenModel(SmallModel()));
  EXPECT_EQ(plain.built, 2 * 3 * kPlain);
  EXPECT_EQ(plain.fused, plain.built);
}

TEST(OperationsTest, CountsMixes) {
  CompressOptions options = QuickOptions(5);
  Operations count = CountOf(options);
  EXPECT_EQ(count.built, 2 * 3 * kPlain);
  // Down, and A, N and five alphas of each chosen expert.
  const double shared = 4 * 32 * (32 + 64);
  EXPECT_NEAR(count.fused, 2 * (kPlain + 2 * (shared + 4 * 5 * 32 * 64)), 1e-3);
  options.max_alphas = 2;
  options.kinds = {&kDownKind};
  count = CountOf(options);
  EXPECT_NEAR(count.fused, 2 * (2 * kPlain + shared + 4 * 2 * 32 * 64), 1e-3);
}

// Of the identity bases are multiplied once, whatever is chosen.
TEST(OperationsTest, CountsProductsOfBases) {
  CompressOptions options = QuickOptions(5);
  options.activation = Activation::kIdentity;
  const Operations count = CountOf(options);
  const double factored = 5 * 32 * 64 + 4 * 5 * 32 + 4 * 32 * 32;
  EXPECT_NEAR(count.fused, 2 * (kPlain + 2 * factored), 1e-3);
  EXPECT_EQ(count.mixes, 0);
}

TEST(OperationsTest, CountsLowRankBasesOnce) {
  CompressOptions options = QuickOptions(5);
  options.kinds = {&kGateKind};
  options.rank = 20;
  options.basis_rank = 3;
  const double rest = 2 * kPlain + 4 * 20 * (32 + 64) + 4 * 5 * 20 * 64;
  EXPECT_NEAR(CountOf(options).fused, 2 * (rest + 5 * 20 * 3 * 64), 1e-3);
  // A basis that some experts do not use is left out where they are chosen.
  options.max_alphas = 1;
  const double one = 2 * kPlain + 4 * 20 * (32 + 64) + 4 * 1 * 20 * 64;
  const double fused = CountOf(options).fused;
  EXPECT_GT(fused, 2 * (one + 1 * 20 * 3 * 64));
  EXPECT_LT(fused, 2 * (one + 4 * 20 * 3 * 64));
}

}  // namespace
}  // namespace mobe
