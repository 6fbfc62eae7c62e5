#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/testing.h"
#include "families/family.h"
#include "families/testing.h"

namespace mobe::family_test {
namespace {

using ::testing::ElementsAre;

TEST(FamilyTest, Stacked) {
  const Json json = FixtureConfig();
  const Family& family = FamilyOf(ConfigReader(json, "config.json"));
  const auto stacked = ListStacked(family, Read(json), 1);
  ASSERT_EQ(stacked.size(), 2u);
  EXPECT_EQ(stacked[0].name, "model.layers.1.mlp.experts.gate_up_proj");
  EXPECT_THAT(stacked[0].shape, ElementsAre(16, 64, 64));
  EXPECT_THAT(stacked[0].parts,
              ElementsAre(Role::kExpertGate, Role::kExpertUp));
  EXPECT_EQ(stacked[1].name, "model.layers.1.mlp.experts.down_proj");
  EXPECT_THAT(stacked[1].shape, ElementsAre(16, 64, 32));
}

// Of families that are only factored: the first tensor of experts, and its
// shape where they are stacked.
TEST(FamilyTest, WhereExpertsAre) {
  struct Case {
    const char* type;
    const char* sizes;
    const char* gate;
    const char* stacked;
    std::vector<int64_t> shape;
  };
  const std::string text =
      R"("hidden_size": 64, "num_hidden_layers": 3, "num_experts": 8,
         "moe_intermediate_size": 24)";
  const std::string inside = R"("text_config": {)" + text + "}";
  const std::string thinker = R"("thinker_config": {)" + inside + "}";
  const std::string llama =
      R"("text_config": {"hidden_size": 64, "num_hidden_layers": 3,
         "num_local_experts": 8, "intermediate_size": 24,
         "intermediate_size_mlp": 99})";
  const std::string ernie =
      R"("hidden_size": 64, "num_hidden_layers": 3, "moe_num_experts": [8, 8],
         "moe_intermediate_size": [24, 8])";
  const std::string dbrx =
      R"("d_model": 64, "n_layers": 3,
         "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 8})";
  const Case cases[] = {
      {"qwen3_vl_moe",
       inside.c_str(),
       "model.language_model.layers.2.mlp.experts.7.gate_proj.weight",
       "model.language_model.layers.2.mlp.experts.gate_up_proj",
       {8, 64, 48}},
      {"qwen3_omni_moe",
       thinker.c_str(),
       "thinker.model.layers.2.mlp.experts.7.gate_proj.weight",
       "thinker.model.layers.2.mlp.experts.gate_up_proj",
       {8, 48, 64}},
      {"qwen3_omni_moe_thinker",
       inside.c_str(),
       "model.layers.2.mlp.experts.7.gate_proj.weight",
       "model.layers.2.mlp.experts.gate_up_proj",
       {8, 48, 64}},
      {"llama4",
       llama.c_str(),
       "language_model.model.layers.2.feed_forward.experts.7.gate_proj.weight",
       "language_model.model.layers.2.feed_forward.experts.gate_up_proj",
       {8, 64, 48}},
      {"jamba",
       text.c_str(),
       "model.layers.2.feed_forward.experts.7.gate_proj.weight",
       "model.layers.2.feed_forward.experts.gate_up_proj",
       {8, 48, 64}},
      {"ernie4_5_moe_vl",
       ernie.c_str(),
       "model.layers.2.mlp.experts.7.gate_proj.weight",
       "model.layers.2.mlp.experts.gate_up_proj",
       {8, 48, 64}},
      {"step3p7",
       inside.c_str(),
       "model.layers.2.moe.experts.7.gate_proj.weight",
       "model.layers.2.moe.gate_proj.weight",
       {8, 24, 64}},
      {"dbrx",
       dbrx.c_str(),
       "transformer.blocks.2.ffn.experts.7.w1",
       "transformer.blocks.2.ffn.experts.mlp.w1",
       {192, 64}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.type);
    const Json json = ParseJson(
        fmt::format(R"({{"model_type": "{}", {}}})", c.type, c.sizes), "");
    const Family& family = FamilyOf(ConfigReader(json, "config.json"));
    EXPECT_FALSE(family.runs);
    EXPECT_EQ(TensorName(family, Role::kExpertGate, 2, 7), c.gate);
    const auto stacked = ListStacked(family, Read(json), 2);
    EXPECT_EQ(stacked.front().name, c.stacked);
    EXPECT_EQ(stacked.front().shape, c.shape);
  }
}

// The numbers of the second part of three rows and two columns.
TEST(FamilyTest, PlacesInStacks) {
  StackedSpec spec;
  spec.parts = {Role::kExpertGate, Role::kExpertUp};
  spec.rows = 3;
  spec.cols = 2;
  const auto places = [&](Stacking stacking) {
    spec.stacking = stacking;
    const PartPlace place = PlaceOf(spec, 1);
    std::vector<int64_t> all;
    for (int64_t r = 0; r < spec.rows; ++r) {
      for (int64_t c = 0; c < spec.cols; ++c) {
        all.push_back(place.first + r * place.row_stride +
                      c * place.col_stride);
      }
    }
    return all;
  };
  EXPECT_THAT(places(Stacking::kParts), ElementsAre(6, 7, 8, 9, 10, 11));
  EXPECT_THAT(places(Stacking::kPartsTransposed),
              ElementsAre(3, 9, 4, 10, 5, 11));
  EXPECT_THAT(places(Stacking::kTurnsTransposed),
              ElementsAre(1, 7, 3, 9, 5, 11));
}

}  // namespace
}  // namespace mobe::family_test
