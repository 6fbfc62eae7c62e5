#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/testing.h"
#include "families/family.h"
#include "families/testing.h"

namespace mobe::family_test {
namespace {

using ::testing::ElementsAreArray;

// 0 is even, but hidden_size / num_attention_heads is no size then.
TEST(Qwen3MoeTest, MoreHeadsThanHiddenSize) {
  Json json = FixtureConfig();
  json.erase("head_dim");
  json["num_attention_heads"] = 128;
  ExpectError(ErrorKind::kMissing,
              "config.json: \"head_dim\" is missing, and hidden_size / "
              "num_attention_heads is 0, expected an even number",
              [&] { Read(json); });
}

// As of Phi's configs: the positions of training stand beside the scaling, and
// have the ratio for a factor.
TEST(RopeTest, LongRope) {
  Json json = FixtureConfig();
  json["max_position_embeddings"] = 131072;
  json["original_max_position_embeddings"] = 4096;
  json["rope_scaling"] = {{"type", "longrope"},
                          {"short_factor", std::vector<double>(16, 1.25)},
                          {"long_factor", std::vector<double>(16, 20)}};
  const ModelConfig c = Read(json);
  EXPECT_EQ(c.max_positions, 4096);
  EXPECT_THAT(c.rope.pair_factors, ElementsAreArray(std::vector(16, 1.25)));
  EXPECT_FLOAT_EQ(c.rope.amplitude, std::sqrt(1 + 5.0 / 12));
  json["rope_scaling"]["factor"] = 4;
  EXPECT_FLOAT_EQ(Read(json).rope.amplitude, std::sqrt(1 + 2.0 / 12));
  json["rope_scaling"]["attention_factor"] = 1.5;
  EXPECT_EQ(Read(json).rope.amplitude, 1.5f);
  json["rope_scaling"]["original_max_position_embeddings"] = 8192;
  ExpectError(ErrorKind::kUnsupported,
              "\"original_max_position_embeddings\" is 8192, but 4096 in",
              [&] { Read(json); });
  json["rope_scaling"].erase("attention_factor");
  json["rope_scaling"]["original_max_position_embeddings"] = 1;
  json.erase("original_max_position_embeddings");
  ExpectError(ErrorKind::kCorruptFile,
              "original_max_position_embeddings is 1, expected 2 or more",
              [&] { Read(json); });
}

// Qwen's cards add rope_scaling and leave max_position_embeddings as it is.
TEST(Qwen3MoeTest, YarnExtendsTheContext) {
  Json json = FixtureConfig();
  json["max_position_embeddings"] = 40960;
  json["rope_scaling"] = {{"rope_type", "yarn"},
                          {"factor", 4.0},
                          {"original_max_position_embeddings", 32768}};
  EXPECT_EQ(Read(json).max_positions, 131072);
  json["rope_scaling"]["factor"] = 1.0;
  EXPECT_EQ(Read(json).max_positions, 40960);
  json["rope_scaling"]["factor"] = 1e300;
  EXPECT_EQ(Read(json).max_positions, kMaxConfigSize);
}

// Where transformers 4 and 5 and converters between them have it.
TEST(RopeTest, Places) {
  const Json yarn = {{"rope_type", "yarn"},
                     {"factor", 4.0},
                     {"original_max_position_embeddings", 32768}};
  Json json = FixtureConfig();
  json.erase("rope_theta");
  json["rope_scaling"] = nullptr;
  EXPECT_EQ(Read(json).rope.theta, 10000);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    SCOPED_TRACE(key);
    Json one = json;
    one[key] = {{"rope_type", "default"}, {"rope_theta", 5e6}};
    EXPECT_EQ(Read(one).rope.theta, 5e6);
    EXPECT_EQ(Read(one).rope.factor, 1);
    one[key] = yarn;
    one[key]["rope_theta"] = 7e6;
    EXPECT_EQ(Read(one).rope.theta, 7e6);
    EXPECT_EQ(Read(one).rope.factor, 4);
    one["rope_theta"] = 7e6;  // the same in two places
    EXPECT_EQ(Read(one).rope.theta, 7e6);
  }
  json["rope_scaling"] = yarn;
  json["rope_parameters"] = yarn;
  EXPECT_EQ(Read(json).rope.factor, 4);
  json["rope_parameters"]["factor"] = 2;
  ExpectError(ErrorKind::kUnsupported,
              "config.json: \"rope_scaling\" and \"rope_parameters\" are both "
              "there and disagree",
              [&] { Read(json); });
  json["rope_scaling"] = Json::object();
  EXPECT_EQ(Read(json).rope.factor, 2);
}

TEST(RopeTest, MscaleOfBothPlaces) {
  Json json = FixtureConfig("deepseek_v3");
  const float scale = Read(json).attention_scale;
  json["rope_parameters"] = json["rope_scaling"];
  json["rope_parameters"]["rope_theta"] = json["rope_theta"];
  json.erase("rope_scaling");
  json.erase("rope_theta");
  EXPECT_EQ(Read(json).attention_scale, scale);
}

}  // namespace
}  // namespace mobe::family_test
