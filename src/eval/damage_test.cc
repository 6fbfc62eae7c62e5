#include "eval/damage.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/parallel.h"
#include "eval/statistics.h"
#include "mobe/tensors.h"
#include "model/model.h"
#include "model/test_models.h"

namespace mobe {
namespace {

constexpr int64_t kContext = 12;

std::vector<int32_t> Ids(int64_t vocab_size) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < 30; ++i) {  // two windows and a shorter one
    ids.push_back(static_cast<int32_t>(i * i * 7 % vocab_size));
  }
  return ids;
}

const std::vector<LayerKind> kMatrices = {
    {1, &kGateKind}, {1, &kDownKind}, {2, &kUpKind}, {2, &kDownKind}};

std::vector<double> Measure(const OpenedModel& model,
                            const ReplaceFn& replace) {
  const std::vector<int32_t> ids = Ids(model.config.vocab_size);
  return MeasureDamage(model, {ids, kContext}, kMatrices, replace,
                       [](const ProgressEvent&) {});
}

// The model's own matrices, times a factor, as they are stored.
ReplaceFn Times(const OpenedModel& model, float factor) {
  return [&model, factor](int64_t layer, const MatrixKind& kind) {
    const int64_t experts = model.config.num_experts;
    Buffer<BFloat16> matrices(experts * model.config.expert_size *
                              model.config.hidden_size);
    BFloat16* to = matrices.data();
    for (int64_t e = 0; e < experts; ++e) {
      const TensorView& tensor = model.At(kind.expert, layer, e);
      Buffer<float> values(tensor.elements());
      LoadAsFloats(tensor.dtype, tensor.data.data(), values.size(),
                   values.data());
      for (float& value : values) value *= factor;
      Kernels().to_bfloat16(values.data(), values.size(), to);
      to += values.size();
    }
    return matrices;
  };
}

TEST(DamageTest, NoneByTheSameMatrices) {
  const OpenedModel model = OpenModel(TestModel("qwen3_moe"));
  for (const double damage : Measure(model, Times(model, 1))) {
    EXPECT_LT(damage, 1e-6);
  }
}

TEST(DamageTest, MoreByLargerErrors) {
  const OpenedModel model = OpenModel(TestModel("qwen3_moe"));
  const auto small = Measure(model, Times(model, 0.9F));
  const auto large = Measure(model, Times(model, 0.7F));
  for (size_t i = 0; i < small.size(); ++i) {
    EXPECT_GT(small[i], 0);
    // Of the square of the error, about.
    EXPECT_GT(large[i], 5 * small[i]);
    EXPECT_LT(large[i], 14 * small[i]);
  }
}

// Without down a layer's experts add nothing: as gate of zeros, too.
TEST(DamageTest, EachKindIsReplacedAlone) {
  const OpenedModel model = OpenModel(TestModel("qwen3_moe"));
  const auto damages = Measure(model, Times(model, 0));
  EXPECT_DOUBLE_EQ(damages[0], damages[1]);
  EXPECT_DOUBLE_EQ(damages[2], damages[3]);
  EXPECT_NE(damages[0], damages[2]);
}

TEST(DamageTest, IndependentOfThreads) {
  const OpenedModel model = OpenModel(TestModel("qwen3_moe"));
  const auto expected = Measure(model, Times(model, 0.9F));
  SetThreads(3);
  EXPECT_EQ(Measure(model, Times(model, 0.9F)), expected);
  SetThreads(0);
}

TEST(DamageTest, TokensThatAreNone) {
  const OpenedModel model = OpenModel(TestModel("qwen3_moe"));
  const std::vector<int32_t> ids = {0, 1 << 30};
  EXPECT_THROW(MeasureDamage(model, {ids, 2}, kMatrices, Times(model, 1),
                             [](const ProgressEvent&) {}),
               Error);
}

}  // namespace
}  // namespace mobe
