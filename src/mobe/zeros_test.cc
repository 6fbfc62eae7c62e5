#include "mobe/zeros.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mobe/testing.h"

namespace mobe {
namespace {

using ::testing::HasSubstr;

// A bfloat16 tensor of ones, and zeros from `first` to `last`.
bool Looks(const std::string& name, int64_t elements, int64_t first,
           int64_t last) {
  std::vector<BFloat16> values(elements, ToBFloat16(1));
  std::fill(values.begin() + first, values.begin() + last, ToBFloat16(-0.0f));
  const TensorView tensor{{name, DType::kBF16, {elements}},
                          std::as_bytes(std::span(values))};
  return LooksUnwritten(tensor, ScanTensor(tensor));
}

TEST(ZerosTest, AllHalfOrAMebibyte) {
  EXPECT_TRUE(Looks("t", 1, 0, 1));
  EXPECT_FALSE(Looks("t", 100, 0, 99));  // finer than it looks
  EXPECT_FALSE(Looks("t", 100'000, 0, 0));
  EXPECT_TRUE(Looks("t", 100'000, 49'000, 100'000));
  EXPECT_TRUE(Looks("t", 100'000, 0, 54'000));
  EXPECT_FALSE(Looks("t", 100'000, 55'000, 100'000));
  // Two MiB of six, and half of one.
  EXPECT_TRUE(Looks("t", 3 << 20, 1 << 20, 2 << 20));
  EXPECT_FALSE(Looks("t", 3 << 20, 1 << 20, (1 << 20) + (1 << 18)));
  // Not all at a stretch.
  std::vector<BFloat16> values(8 * 4096, ToBFloat16(0));
  for (int64_t piece : {1, 3, 5, 7}) values[piece * 4096] = ToBFloat16(1);
  const TensorView tensor{{"t", DType::kBF16, {8, 4096}},
                          std::as_bytes(std::span(values))};
  EXPECT_FALSE(LooksUnwritten(tensor, ScanTensor(tensor)));
}

TEST(ZerosTest, NeitherBiasesNorNothingNorIntegers) {
  EXPECT_FALSE(Looks("x.bias", 8, 0, 8));
  EXPECT_FALSE(Looks("gate.e_score_correction_bias", 8, 0, 8));
  EXPECT_FALSE(Looks("t", 0, 0, 0));
  const std::byte zeros[8] = {};
  const TensorView integer{{"t", DType::kI64, {1}}, zeros};
  EXPECT_FALSE(LooksUnwritten(integer, ScanTensor(integer)));
}

TEST(ZerosTest, OneLine) {
  const Checkpoint checkpoint(SmallModel());
  EXPECT_EQ(UnwrittenWarning(checkpoint, {}), "");
  const std::string one = UnwrittenWarning(checkpoint, {"model.norm.weight"});
  EXPECT_THAT(one, HasSubstr(": 1 of "));
  EXPECT_THAT(one, HasSubstr("leaves them: model.norm.weight; unless"));
  EXPECT_THAT(one, HasSubstr("get " + SmallModel().string() + "/model-0000"));
  const std::string prefix = "model.layers.0.mlp.";
  EXPECT_THAT(
      UnwrittenWarning(checkpoint,
                       {prefix + "up_proj.weight", prefix + "gate_proj.weight",
                        "model.norm.weight", prefix + "down_proj.weight"}),
      HasSubstr(": " + prefix + "down_proj.weight, " + prefix +
                "gate_proj.weight, " + prefix + "up_proj.weight, ...;"));
}

}  // namespace
}  // namespace mobe
