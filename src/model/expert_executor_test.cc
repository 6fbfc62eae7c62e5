// Every way to run a layer's experts computes what the others do.
#include "model/expert_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "model/built_experts.h"
#include "model/cached_experts.h"
#include "model/expert_builder.h"
#include "model/stored_experts.h"
#include "model/streamed_experts.h"
#include "model/test_models.h"

namespace mobe::expert_executor_test {
namespace {

// A model of which the last layer is run, with inputs of experts that have 0 to
// 3 pairs each.
class ExpertExecutorTest : public testing::Test {
 protected:
  explicit ExpertExecutorTest(const std::string& model = "qwen3_mobe")
      : model_(OpenModel(TestModel(model))),
        weights_(LoadWeights(model_)),
        index_(model_.config.num_layers - 1),
        layer_(weights_.layers.back()) {
    std::mt19937 random(7);
    scratch_.starts = {0};
    for (int64_t e = 0; e < model_.config.num_experts; ++e) {
      scratch_.starts.push_back(scratch_.pairs() + e % 4);
    }
    std::normal_distribution<float> normal;
    scratch_.x.Resize(scratch_.pairs() * model_.config.hidden_size);
    for (float& x : scratch_.x) x = normal(random);
  }

  std::vector<float> Run(ExpertExecutor* executor) {
    executor->Run({}, &scratch_);
    return {scratch_.down.begin(), scratch_.down.end()};
  }
  std::vector<float> Stored() {
    StoredExperts stored(layer_);
    return Run(&stored);
  }
  static double Distance(const std::vector<float>& a,
                         const std::vector<float>& b) {
    double error = 0, square = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      error += std::pow(a[i] - b[i], 2.0);
      square += std::pow(b[i], 2.0);
    }
    return std::sqrt(error / square);
  }

  const OpenedModel model_;
  const Weights weights_;
  const int64_t index_;
  const LayerWeights& layer_;
  MlpScratch scratch_;
};

class StreamedExpertsTest : public ExpertExecutorTest,
                            public testing::WithParamInterface<const char*> {
 protected:
  StreamedExpertsTest() : ExpertExecutorTest(GetParam()) {}
};

std::vector<int64_t> Sizes(int64_t place) {
  return {0, 3 * place, 5 * place, 1000 * place};
}

// To the bit: with room for two experts, some, and all of them; a second time,
// when some are there; and after a wrong guess.
TEST_P(StreamedExpertsTest, AreStored) {
  const std::vector<float> stored = Stored();
  const int64_t place = ExpertStore::PlaceBytes(model_, weights_);
  EXPECT_GT(place, 0);
  for (const int64_t bytes : Sizes(place)) {
    ExpertStore store(model_, weights_, bytes);
    StreamedExperts streamed(layer_, index_, &store);
    EXPECT_EQ(Run(&streamed), stored);
    const int32_t guess[] = {0, 0, 4};
    streamed.Expect(guess, Urgency::kLater);
    EXPECT_EQ(Run(&streamed), stored);
  }
}

// What was read is found as long as there is room.
TEST_P(StreamedExpertsTest, AreReadOnce) {
  ExpertStore store(model_, weights_, int64_t{1} << 40);
  StreamedExperts streamed(layer_, index_, &store);
  Run(&streamed);
  const auto first = store.statistics();
  EXPECT_EQ(first.read, model_.config.num_experts * 3 / 4);
  Run(&streamed);
  EXPECT_EQ(store.statistics().read, first.read);
  EXPECT_EQ(store.statistics().found, first.read);
  EXPECT_EQ(store.statistics().bytes, first.bytes);
  EXPECT_GE(store.statistics().seconds, first.seconds);
}

INSTANTIATE_TEST_SUITE_P(Models, StreamedExpertsTest,
                         testing::Values("qwen3_moe", "qwen3_mobe"),
                         [](const auto& param) {
                           return std::string(param.param);
                         });

TEST_F(ExpertExecutorTest, BuiltAreFused) {
  const std::vector<float> stored = Stored();
  const struct {
    std::optional<NumberFormat> format;
    double bound;  // relative: three matrices, each rounded
  } cases[] = {{NumberFormat::kF32, 1e-5},
               {NumberFormat::kBF16, 0.01},
               {std::nullopt, 0.01},
               {NumberFormat::kInt8, 0.03},
               {NumberFormat::kInt4, 0.3}};
  for (const auto& [format, bound] : cases) {
    BuiltExperts built(layer_, format, model_.checkpoint);
    EXPECT_LT(Distance(Run(&built), stored), bound);
    EXPECT_GT(built.TokenBytes(1), 0);
  }
}

// Experts are built when they have been used for a while, and only as many as
// there is room for.
TEST_F(ExpertExecutorTest, CachedAreFused) {
  const std::vector<float> stored = Stored();
  for (const int64_t experts : {0, 2, 1000}) {
    CachedExperts cached(
        layer_, NumberFormat::kF32,
        experts * BuiltExpertBytes(layer_, NumberFormat::kF32));
    EXPECT_EQ(Run(&cached), stored);
    for (int i = 0; i < 40; ++i) Run(&cached);
    const std::vector<float> later = Run(&cached);
    EXPECT_LT(Distance(later, stored), 1e-5);
    EXPECT_EQ(later == stored, experts == 0);
    const Uses uses = cached.uses();
    EXPECT_EQ(uses.found > 0, experts > 0);
    EXPECT_EQ(uses.found + uses.missed, 42 * model_.config.num_experts * 3 / 4);
    EXPECT_EQ(uses.built, std::min(experts, model_.config.num_experts * 3 / 4));
  }
}

}  // namespace
}  // namespace mobe::expert_executor_test
