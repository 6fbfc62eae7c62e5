// Running FP8 checkpoints, against the same numbers in float32.
#include <gtest/gtest.h>

#include "mobe/fp8_testing.h"
#include "model/test_models.h"

namespace mobe::model_fp8_test {
namespace {

constexpr int64_t kTokens = 24;

std::vector<int32_t> Ids() { return Golden<int32_t>("qwen3_moe", "input_ids"); }

class Fp8RunTest : public testing::TestWithParam<Fp8Options> {
 protected:
  Fp8RunTest() { WriteFp8Model(fp8_, values_, GetParam()); }

  TempFolder folder_;
  const std::filesystem::path fp8_ = folder_ / "fp8";
  const std::filesystem::path values_ = folder_ / "values";
};

INSTANTIATE_TEST_SUITE_P(Forms, Fp8RunTest,
                         testing::Values(Fp8Options{},
                                         Fp8Options{{128, 128}, DType::kF32},
                                         Fp8Options{{24, 40}, DType::kBF16},
                                         Fp8Options{{1, 1}, DType::kF16}));

TEST_P(Fp8RunTest, EqualsTheExpandedModel) {
  const Model fp8 = Model::Load(fp8_, {});
  const Model values = Model::Load(values_, {});
  // Scales alone are copied, and only where they are not float32.
  EXPECT_EQ(fp8.weights().owned.empty(), GetParam().scales == DType::kF32);
  const auto want = RunModel(values, Ids(), kTokens);
  // Many tokens at once, and one.
  EXPECT_LE(RelativeDistance(RunModel(fp8, Ids(), kTokens), want), 1e-5);
  const std::vector<int32_t> one = {Ids().front()};
  EXPECT_LE(RelativeDistance(RunModel(fp8, one, 1), RunModel(values, one, 1)),
            1e-5);
}

TEST_P(Fp8RunTest, DecodeReadsOneByteAWeight) {
  const Model fp8 = Model::Load(fp8_, {});
  const Model values = Model::Load(values_, {});
  // Head in bfloat16 and routers in float32 are the same in both.
  const int64_t same = 2 * 64 * 512 + 2 * 4 * 16 * 64;
  EXPECT_EQ(4 * (fp8.DecodeBytes() - same), values.DecodeBytes() - same);
}

}  // namespace
}  // namespace mobe::model_fp8_test
