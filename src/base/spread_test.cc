#include "base/spread.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace mobe {
namespace {

TEST(SpreadTest, FewValues) {
  EXPECT_EQ(SpreadOf({}).Deviation(), 0);
  const float one[] = {3};
  EXPECT_EQ(SpreadOf(one).Deviation(), 0);
  const float three[] = {1, 2, 6};
  EXPECT_EQ(SpreadOf(three).mean, 3);
  EXPECT_DOUBLE_EQ(SpreadOf(three).Deviation(), std::sqrt(7.0));
}

// In parts of any length, empty ones among them, as at once; far from zero,
// where sums of squares would have no digit left.
TEST(SpreadTest, PartsAddUp) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(1000, 0.01f);
  std::vector<float> values(10000);
  for (float& value : values) value = normal(random);
  const Spread all = SpreadOf(values);
  Spread sum;
  for (size_t begin = 0, length = 0; begin < values.size(); ++length) {
    const size_t count = std::min(length, values.size() - begin);
    sum.Add(SpreadOf({values.data() + begin, count}));
    begin += count;
  }
  EXPECT_EQ(sum.count, 10000);
  EXPECT_NEAR(sum.mean / all.mean, 1, 1e-14);
  EXPECT_NEAR(sum.Deviation() / all.Deviation(), 1, 1e-10);
  EXPECT_NEAR(all.Deviation(), 0.01, 1e-3);
}

}  // namespace
}  // namespace mobe
