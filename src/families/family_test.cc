#include "families/family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/file.h"
#include "io/checkpoint.h"
#include "io/testing.h"

namespace mobe {
namespace {

using ::testing::ElementsAre;

const std::filesystem::path kFixture =
    std::filesystem::path(MOBE_TEST_DATA) / "models/qwen3_moe";

Json FixtureConfig() {
  return ParseJson(ReadSmallFile(kFixture / "config.json"), "config.json");
}

ModelConfig Read(const Json& json) {
  const ConfigReader reader(json, "config.json");
  return FamilyOf(reader).read_config(reader);
}

using Shapes = std::map<std::string, std::vector<int64_t>>;

Shapes ShapesOf(const ModelConfig& config) {
  Shapes shapes;
  for (const TensorSpec& spec : ListTensors(*Families()[0], config)) {
    EXPECT_TRUE(shapes.emplace(spec.name, spec.shape).second) << spec.name;
  }
  return shapes;
}

TEST(Qwen3MoeTest, TableIsWhatTransformersWrote) {
  Shapes stored;
  const Checkpoint checkpoint(kFixture);
  for (const TensorView* tensor : checkpoint.tensors()) {
    stored[tensor->name] = tensor->shape;
  }
  EXPECT_EQ(ShapesOf(Read(FixtureConfig())), stored);
}

TEST(Qwen3MoeTest, Config) {
  const ModelConfig c = Read(FixtureConfig());
  EXPECT_EQ(c.vocab_size, 512);
  EXPECT_EQ(c.hidden_size, 64);
  EXPECT_EQ(c.num_layers, 3);
  EXPECT_EQ(c.num_heads, 4);
  EXPECT_EQ(c.num_kv_heads, 2);
  EXPECT_EQ(c.head_dim, 32);
  EXPECT_EQ(c.rope_theta, 1e6);
  EXPECT_EQ(c.rms_norm_eps, 1e-6f);
  EXPECT_EQ(c.dense_size, 160);
  EXPECT_EQ(c.expert_size, 32);
  EXPECT_EQ(c.num_experts, 16);
  EXPECT_EQ(c.experts_per_token, 4);
  EXPECT_TRUE(c.norm_topk_prob);
  EXPECT_FALSE(c.tie_embeddings);
  EXPECT_THAT(c.dense_layers, ElementsAre(0));
}

TEST(Qwen3MoeTest, KeysThatAddOrDropTensors) {
  Json json = FixtureConfig();
  const Shapes before = ShapesOf(Read(json));
  json["tie_word_embeddings"] = true;
  json["attention_bias"] = true;
  const Shapes after = ShapesOf(Read(json));
  EXPECT_EQ(after.size(), before.size() - 1 + 3 * 4);
  EXPECT_FALSE(after.contains("lm_head.weight"));
  EXPECT_THAT(after.at("model.layers.2.self_attn.q_proj.bias"),
              ElementsAre(4 * 32));
  EXPECT_THAT(after.at("model.layers.2.self_attn.k_proj.bias"),
              ElementsAre(2 * 32));
  EXPECT_THAT(after.at("model.layers.2.self_attn.o_proj.bias"),
              ElementsAre(64));
}

TEST(Qwen3MoeTest, DefaultsOfTheSizes) {
  Json json = FixtureConfig();
  json.erase("head_dim");
  json["num_key_value_heads"] = nullptr;
  const ModelConfig c = Read(json);
  EXPECT_EQ(c.head_dim, 64 / 4);
  EXPECT_EQ(c.num_kv_heads, 4);
}

TEST(Qwen3MoeTest, BadConfigs) {
  struct Case {
    const char* key;
    Json value;  // null: the key is missing
    ErrorKind kind;
    const char* message;
  };
  const Case cases[] = {
      {"model_type", "llama", ErrorKind::kUnsupported,
       "model_type \"llama\" is not one of: qwen3_moe"},
      {"model_type", Json(), ErrorKind::kUnsupported, "model_type \"\" is not"},
      {"hidden_size", Json(), ErrorKind::kCorruptFile,
       "config.json: \"hidden_size\" is missing, expected an integer from 1"},
      {"hidden_size", "64", ErrorKind::kCorruptFile,
       "\"hidden_size\" is \"64\", expected an integer"},
      {"num_hidden_layers", 0, ErrorKind::kCorruptFile,
       "\"num_hidden_layers\" is 0"},
      {"num_experts", -16, ErrorKind::kCorruptFile, "\"num_experts\" is -16"},
      {"vocab_size", int64_t{1} << 40, ErrorKind::kCorruptFile,
       "\"vocab_size\" is 1099511627776"},
      {"num_attention_heads", 0, ErrorKind::kCorruptFile,
       "\"num_attention_heads\" is 0"},
      {"num_key_value_heads", 3, ErrorKind::kCorruptFile,
       "\"num_attention_heads\" is 4, expected a multiple of "
       "num_key_value_heads (3)"},
      {"head_dim", 31, ErrorKind::kCorruptFile,
       "head_dim is 31, expected an even number"},
      {"num_experts_per_tok", 17, ErrorKind::kCorruptFile,
       "\"num_experts_per_tok\" is 17, expected at most the number of experts "
       "(16)"},
      {"rope_theta", 0, ErrorKind::kCorruptFile,
       "\"rope_theta\" is 0, expected above 0"},
      {"rms_norm_eps", -1, ErrorKind::kCorruptFile, "\"rms_norm_eps\" is -1"},
      {"use_sliding_window", true, ErrorKind::kUnsupported,
       "\"use_sliding_window\" can't be run yet"},
      {"rope_parameters", Json::object(), ErrorKind::kUnsupported,
       "\"rope_parameters\" can't be run yet"},
      {"decoder_sparse_step", 0, ErrorKind::kCorruptFile,
       "\"decoder_sparse_step\" is 0"},
      {"mlp_only_layers", "0", ErrorKind::kCorruptFile,
       "\"mlp_only_layers\" is \"0\", expected an integer"},
      {"tie_word_embeddings", 1, ErrorKind::kCorruptFile,
       "\"tie_word_embeddings\" is 1, expected true or false"},
      {"hidden_act", "gelu", ErrorKind::kUnsupported,
       "hidden_act \"gelu\", only silu is known"},
      {"quantization_config",
       {{"quant_method", "fp8"}},
       ErrorKind::kUnsupported,
       "quant_method \"fp8\""},
      {"rope_scaling",
       {{"type", "yarn"}, {"factor", 4}},
       ErrorKind::kUnsupported,
       "rope_scaling: rope type \"yarn\""},
      {"rope_scaling", 4, ErrorKind::kCorruptFile,
       "\"rope_scaling\" is 4, expected an object"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    Json json = FixtureConfig();
    json[c.key] = c.value;
    if (c.value.is_null()) json.erase(c.key);
    ExpectError(c.kind, c.message, [&] { Read(json); });
  }
}

// 0 is even, but hidden_size / num_attention_heads is no size then.
TEST(Qwen3MoeTest, MoreHeadsThanHiddenSize) {
  Json json = FixtureConfig();
  json.erase("head_dim");
  json["num_attention_heads"] = 128;
  ExpectError(ErrorKind::kCorruptFile, "head_dim is 0", [&] { Read(json); });
}

TEST(ModelConfigTest, MoeLayers) {
  const auto layers = [](int64_t step, std::vector<int64_t> dense) {
    ModelConfig config;
    config.moe_layer_step = step;
    config.dense_layers = std::move(dense);
    std::string text;
    for (int64_t i = 0; i < 6; ++i) text += config.IsMoeLayer(i) ? '#' : '.';
    return text;
  };
  EXPECT_EQ(layers(1, {}), "######");
  EXPECT_EQ(layers(1, {0, 3}), ".##.##");
  EXPECT_EQ(layers(2, {}), ".#.#.#");
  EXPECT_EQ(layers(3, {5}), "..#...");
}

TEST(FamilyTest, TensorNames) {
  const Family& family = *Families()[0];
  EXPECT_EQ(TensorName(family, Role::kEmbedding), "model.embed_tokens.weight");
  EXPECT_EQ(TensorName(family, Role::kRouter, 12),
            "model.layers.12.mlp.gate.weight");
  EXPECT_EQ(TensorName(family, Role::kExpertUp, 1, 15),
            "model.layers.1.mlp.experts.15.up_proj.weight");
  ExpectError(ErrorKind::kInternal, "no tensor of role",
              [&] { TensorName(family, Role::kGateBases, 1); });
}

}  // namespace
}  // namespace mobe
