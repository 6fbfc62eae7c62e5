#include "families/family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/testing.h"
#include "families/testing.h"
#include "io/checkpoint.h"

namespace mobe::family_test {
namespace {

using ::testing::ElementsAre;

using Shapes = std::map<std::string, std::vector<int64_t>>;

Shapes ShapesOf(const Json& json) {
  Shapes shapes;
  const Family& family = FamilyOf(ConfigReader(json, "config.json"));
  for (const TensorSpec& spec : ListTensors(family, Read(json))) {
    EXPECT_TRUE(shapes.emplace(spec.name, spec.shape).second) << spec.name;
  }
  return shapes;
}

class FamilyTableTest : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(
    AllFamilies, FamilyTableTest,
    testing::Values("qwen3_moe", "deepseek_v2", "deepseek_v3", "kimi_k2",
                    "bailing_moe", "bailing_moe_biased", "bailing_moe_v2",
                    "glm4_moe", "hy_v3", "minimax_m2", "mixtral", "moonlight",
                    "olmoe", "qwen2_moe", "qwen3_5_moe", "qwen3_next"),
    [](const auto& param) { return std::string(param.param); });

TEST_P(FamilyTableTest, IsWhatTheOriginalWrote) {
  Shapes stored;
  const Json config = FixtureConfig(GetParam());
  const Checkpoint checkpoint(kFixtures / GetParam());
  for (const TensorView* tensor : checkpoint.tensors()) {
    if (IsNotRun(Read(config), tensor->name)) continue;
    stored[tensor->name] = tensor->shape;
  }
  EXPECT_EQ(ShapesOf(config), stored);
}

TEST(Qwen3MoeTest, Config) {
  const ModelConfig c = Read(FixtureConfig());
  EXPECT_EQ(c.vocab_size, 512);
  EXPECT_EQ(c.hidden_size, 64);
  EXPECT_EQ(c.num_layers, 3);
  EXPECT_EQ(c.num_heads, 4);
  EXPECT_EQ(c.num_kv_heads, 2);
  EXPECT_EQ(c.head_dim, 32);
  EXPECT_EQ(c.rope.theta, 1e6);
  EXPECT_EQ(c.rms_norm_eps, 1e-6f);
  EXPECT_EQ(c.dense_size, 160);
  EXPECT_EQ(c.expert_size, 32);
  EXPECT_EQ(c.num_experts, 16);
  EXPECT_EQ(c.experts_per_token, 4);
  EXPECT_TRUE(c.router.normalise);
  EXPECT_FALSE(c.tie_embeddings);
  EXPECT_THAT(c.dense_layers, ElementsAre(0));
}

TEST(Qwen3MoeTest, KeysThatAddOrDropTensors) {
  Json json = FixtureConfig();
  const Shapes before = ShapesOf(json);
  json["tie_word_embeddings"] = true;
  json["attention_bias"] = true;
  const Shapes after = ShapesOf(json);
  EXPECT_EQ(after.size(), before.size() - 1 + 12);
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
      {"model_type", Json(), ErrorKind::kUnsupported,
       "no \"model_type\" in it"},
      {"hidden_size", Json(), ErrorKind::kMissing,
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
       "config.json: \"head_dim\" is 31, expected an even number"},
      {"num_experts_per_tok", 17, ErrorKind::kCorruptFile,
       "\"num_experts_per_tok\" is 17, expected at most the number of experts "
       "(16)"},
      {"rope_theta", 0, ErrorKind::kCorruptFile,
       "\"rope_theta\" is 0, expected above 0"},
      {"rms_norm_eps", -1, ErrorKind::kCorruptFile, "\"rms_norm_eps\" is -1"},
      {"use_sliding_window", true, ErrorKind::kUnsupported,
       "\"use_sliding_window\" can't be run yet"},
      {"layer_types",
       {"full_attention", "sliding_attention"},
       ErrorKind::kUnsupported,
       "\"layer_types\" has \"sliding_attention\", only \"full_attention\""},
      {"partial_rotary_factor", 0.5, ErrorKind::kUnsupported,
       "\"partial_rotary_factor\" is 0.5, only 1 can be run"},
      {"shared_expert_intermediate_size", 64, ErrorKind::kUnsupported,
       "\"shared_expert_intermediate_size\" is 64, only 0"},
      {"num_local_experts", 8, ErrorKind::kUnsupported,
       "\"num_experts\" is 16, but \"num_local_experts\" is 8"},
      {"logit_scale", 0.5, ErrorKind::kUnsupported,
       "config.json: mobe does not know the key \"logit_scale\", which is 0.5, "
       "and it may change what the model computes (the file is of transformers "
       "\"4.51.0\")"},
      {"rope_scaling",
       {{"type", "yarn"}, {"factor", 4}, {"mrope_section", {1, 2}}},
       ErrorKind::kUnsupported,
       "rope_scaling: mobe does not know the key \"mrope_section\""},
      {"rope_scaling",
       {{"type", "yarn"}, {"rope_type", "default"}, {"factor", 4}},
       ErrorKind::kUnsupported,
       "rope_scaling: \"rope_type\" is \"default\", but \"type\" is \"yarn\""},
      {"rope_scaling",
       {{"rope_theta", 5e6}},
       ErrorKind::kUnsupported,
       "rope_scaling: \"rope_theta\" is 5000000, but 1000000 in config.json"},
      {"decoder_sparse_step", 0, ErrorKind::kCorruptFile,
       "\"decoder_sparse_step\" is 0"},
      {"mlp_only_layers", "0", ErrorKind::kCorruptFile,
       "\"mlp_only_layers\" is \"0\", expected an integer"},
      {"tie_word_embeddings", 1, ErrorKind::kCorruptFile,
       "\"tie_word_embeddings\" is 1, expected true or false"},
      {"hidden_act", "gelu", ErrorKind::kUnsupported,
       "hidden_act \"gelu\", only silu is known"},
      {"rope_scaling",
       {{"type", "su"}, {"factor", 4}},
       ErrorKind::kUnsupported,
       "rope_scaling: rope type \"su\""},
      {"rope_scaling",
       {{"type", "longrope"}, {"factor", 4}},
       ErrorKind::kMissing,
       "rope_scaling: \"short_factor\" is missing, expected 16 numbers above "
       "0"},
      {"rope_scaling",
       {{"type", "longrope"}, {"short_factor", {1, 2, 0}}},
       ErrorKind::kCorruptFile,
       "rope_scaling: \"short_factor\" is [1,2,0], expected 16 numbers"},
      {"rope_scaling",
       {{"type", "yarn"}, {"factor", 0.5}},
       ErrorKind::kCorruptFile,
       "rope_scaling: \"factor\" is 0.5, expected a number from 1"},
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

// Keys that published config.json have beyond those of the fixtures, which are
// those of Qwen3-30B-A3B, DeepSeek-V2-Lite, DeepSeek-V3, Kimi-K2 and Ling-Lite.
TEST(FamilyTest, KeysOfPublishedModels) {
  struct Case {
    const char* what;
    const char* model;
    Json keys;
  };
  const Json v5 = {{"dtype", "bfloat16"},
                   {"transformers_version", "5.24.0"},
                   {"output_router_logits", false},
                   {"pad_token_id", nullptr},
                   {"pretraining_tp", 1}};
  const Case cases[] = {
      {"Qwen3-Coder-30B-A3B and 480B-A35B",
       "qwen3_moe",
       {{"qkv_bias", false},
        {"shared_expert_intermediate_size", 0},
        {"use_qk_norm", true},
        {"max_window_layers", 62},
        {"mlp_only_layers", {0}},
        {"router_aux_loss_coef", 0.0}}},
      {"Qwen3-30B-A3B-Instruct-2507-FP8, Qwen3-235B-A22B-Thinking-2507",
       "qwen3_moe",
       {{"max_position_embeddings", 262144},
        {"sliding_window", nullptr},
        {"layer_types", {"full_attention", "full_attention", "full_attention"}},
        {"quantization_config", {{"quant_method", "fp8"}}}}},
      {"saved by transformers 5", "qwen3_moe", v5},
      {"by unsloth",
       "qwen3_moe",
       {{"unsloth_fixed", true}, {"_name_or_path", "x"}, {"num_labels", 2}}},
      {"a trainer's", "qwen3_moe",
       ParseJson(R"({"router_z_loss_limit": [0.0, Infinity]})", "")},
      {"DeepSeek-V2, V2-Chat",
       "deepseek_v2",
       {{"topk_method", "group_limited_greedy"},
        {"n_group", 8},
        {"topk_group", 3},
        {"routed_scaling_factor", 16.0},
        {"q_lora_rank", 48},
        {"ep_size", 1},
        {"aux_loss_alpha", 0.001},
        {"seq_aux", true}}},
      {"DeepSeek-V2-Lite with groups that greedy passes over",
       "deepseek_v2",
       {{"n_group", 3}, {"topk_group", 7}}},
      {"DeepSeek-V3.1, R1",
       "deepseek_v3",
       {{"num_nextn_predict_layers", 1}, {"ep_size", 1}}},
      {"DeepSeek-V3 saved by transformers 5",
       "deepseek_v3",
       {{"head_dim", 8},
        {"qk_head_dim", 24},
        {"rope_interleave", true},
        {"num_local_experts", 16}}},
      {"Moonlight-16B-A3B",
       "deepseek_v3",
       {{"q_lora_rank", nullptr},
        {"rope_scaling", nullptr},
        {"rope_theta", 50000.0},
        {"n_group", 1},
        {"topk_group", 1},
        {"aux_loss_alpha", 0.001},
        {"seq_aux", true},
        {"routed_scaling_factor", 2.446}}},
      {"without shared experts",
       "deepseek_v3",
       {{"n_shared_experts", nullptr}}},
      {"Kimi-K2-Instruct-0905",
       "kimi_k2",
       {{"max_position_embeddings", 262144},
        {"num_nextn_predict_layers", 0},
        {"unk_token_id", 163838}}},
      {"Qwen3-Next-80B-A3B-Instruct and Thinking",
       "qwen3_next",
       {{"full_attention_interval", 4},
        {"layer_types", nullptr},
        {"mlp_only_layers", Json::array()},
        {"partial_rotary_factor", 0.25},
        {"rope_parameters", nullptr},
        {"rope_scaling", nullptr},
        {"rope_theta", 10000000},
        {"use_sliding_window", false},
        {"torch_dtype", "bfloat16"}}},
      {"Ling-lite-1.5, Ling-Coder-lite",
       "bailing_moe",
       {{"head_dim", 16},
        {"rms_norm_eps", 1e-6},
        {"max_window_layers", 28},
        {"router_dtype", nullptr},
        {"embedding_dropout", 0.0},
        {"output_dropout", 0.0},
        {"norm_softmax", false}}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    Json json = FixtureConfig(c.model);
    json.update(c.keys);
    const auto error = ErrorOf([&] { Read(json); });
    EXPECT_FALSE(error) << error->what();
  }
}

TEST(FamilyTest, IsNotRun) {
  const ModelConfig config = Read(FixtureConfig("deepseek_v3"));
  ASSERT_EQ(config.num_layers, 3);
  ASSERT_EQ(config.extra_layers, 1);
  for (const char* name :
       {"model.layers.3.eh_proj.weight", "mtp.layers.0.norm.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq"}) {
    EXPECT_TRUE(IsNotRun(config, name)) << name;
  }
  for (const char* name :
       {"model.layers.2.eh_proj.weight", "model.layers.4.eh_proj.weight",
        "model.layers.3", "model.layers.x.y", "model.layers.-1.y",
        "lm_head.bias"}) {
    EXPECT_FALSE(IsNotRun(config, name)) << name;
  }
}

TEST(DeltaNetsTest, ConfigOfQwen35) {
  const ModelConfig c = Read(FixtureConfig("qwen3_5_moe"));
  EXPECT_EQ(c.num_layers, 3);
  EXPECT_EQ(c.delta.key_heads, 2);
  EXPECT_EQ(c.delta.value_heads, 4);
  EXPECT_EQ(c.delta.key_dim, 8);
  EXPECT_EQ(c.delta.value_dim, 12);
  EXPECT_EQ(c.delta.window, 4);
  EXPECT_EQ(c.delta.channels(), 80);
  EXPECT_TRUE(c.IsDeltaLayer(1));
  EXPECT_FALSE(c.IsDeltaLayer(2));
  EXPECT_EQ(c.rope.dim, 8);
  EXPECT_TRUE(c.attention_gate);
  EXPECT_EQ(c.norm_offset, 1);
  EXPECT_EQ(c.shared_size, 24);
  EXPECT_TRUE(c.router.normalise);
  for (const char* name :
       {"mtp.fc.weight", "model.visual.patch_embed.proj.weight"}) {
    EXPECT_TRUE(IsNotRun(c, name)) << name;
  }
}

// What published configs of Qwen3.5 and 3.6 say beside the fixture's; the text
// part alone is the same model.
TEST(DeltaNetsTest, ConfigsOfQwen35) {
  Json json = FixtureConfig("qwen3_5_moe");
  Json& text = json["text_config"];
  text.update(Json{{"attn_output_gate", true},
                   {"full_attention_interval", 4},
                   {"mamba_ssm_dtype", "float32"},
                   {"mlp_only_layers", Json::array()},
                   {"mtp_num_hidden_layers", 1},
                   {"mtp_use_dedicated_embeddings", false}});
  EXPECT_EQ(Read(json).num_layers, 3);
  Json alone = text;
  const Shapes whole = ShapesOf(json);
  EXPECT_EQ(ShapesOf(alone).size(), whole.size());
  EXPECT_TRUE(
      whole.contains("model.language_model.layers.0.linear_attn.A_log"));
  EXPECT_TRUE(ShapesOf(alone).contains("model.layers.0.linear_attn.A_log"));
  // Without a list of them, every fourth layer has attention.
  alone.erase("layer_types");
  alone["num_hidden_layers"] = 8;
  const ModelConfig c = Read(alone);
  std::string layers;
  for (int64_t i = 0; i < 8; ++i) layers += c.IsDeltaLayer(i) ? '.' : '#';
  EXPECT_EQ(layers, "...#...#");
  text["tie_word_embeddings"] = true;
  ExpectError(ErrorKind::kUnsupported,
              "config.json: text_config: \"tie_word_embeddings\" is true, only "
              "false",
              [&] { Read(json); });
}

TEST(DeepseekTest, ConfigOfV3) {
  const ModelConfig c = Read(FixtureConfig("deepseek_v3"));
  EXPECT_TRUE(c.IsLatent());
  EXPECT_EQ(c.latent.kv_rank, 32);
  EXPECT_EQ(c.latent.query_rank, 48);
  EXPECT_EQ(c.latent.nope, 16);
  EXPECT_EQ(c.rope.dim, 8);
  EXPECT_TRUE(c.rope.interleaved);
  EXPECT_EQ(c.rope.factor, 40);
  EXPECT_EQ(c.rope.original_positions, 256);
  EXPECT_EQ(c.rope.amplitude, 1);
  EXPECT_EQ(c.head_dim, 24);
  EXPECT_EQ(c.value_dim, 16);
  const double mscale = 0.1 * std::log(40) + 1;
  EXPECT_FLOAT_EQ(c.attention_scale, mscale * mscale / std::sqrt(24.0));
  EXPECT_EQ(c.shared_size, 32);
  EXPECT_EQ(c.router.scoring, Scoring::kSigmoid);
  EXPECT_EQ(c.router.groups, 4);
  EXPECT_EQ(c.router.kept_groups, 2);
  EXPECT_EQ(c.router.scale, 2.5f);
  EXPECT_FALSE(c.IsMoeLayer(0));
  EXPECT_TRUE(c.IsMoeLayer(1));
}

// As configuration_deepseek.py has them.
TEST(DeepseekTest, DefaultsOfTheRouterOfV3) {
  Json json = FixtureConfig("deepseek_v3");
  for (const char* key :
       {"n_group", "topk_group", "norm_topk_prob", "routed_scaling_factor"}) {
    json.erase(key);
  }
  const RouterRule router = Read(json).router;
  EXPECT_EQ(router.groups, 8);
  EXPECT_EQ(router.kept_groups, 4);
  EXPECT_TRUE(router.normalise);
  EXPECT_EQ(router.scale, 2.5f);
}

TEST(DeepseekTest, ConfigOfV2Lite) {
  const ModelConfig c = Read(FixtureConfig("deepseek_v2"));
  EXPECT_EQ(c.latent.query_rank, 0);
  EXPECT_EQ(c.shared_size, 64);
  EXPECT_EQ(c.router.scoring, Scoring::kSoftmax);
  EXPECT_FALSE(c.router.bias);
  EXPECT_FALSE(c.router.normalise);
  const double mscale = 0.1 * 0.707 * std::log(40) + 1;
  EXPECT_FLOAT_EQ(c.attention_scale, mscale * mscale / std::sqrt(24.0));
}

TEST(FamilyTest, BadConfigs) {
  struct Case {
    const char* model;
    const char* key;
    Json value;
    ErrorKind kind;
    const char* message;
  };
  const Case cases[] = {
      {"deepseek_v3", "attention_bias", true, ErrorKind::kUnsupported,
       "\"attention_bias\" is true, only false can be run"},
      {"deepseek_v3", "moe_layer_freq", 2, ErrorKind::kUnsupported,
       "\"moe_layer_freq\" is 2, only 1 can be run"},
      {"deepseek_v3", "scoring_func", "softmax", ErrorKind::kUnsupported,
       "\"scoring_func\" is \"softmax\", only \"sigmoid\""},
      {"deepseek_v2", "topk_method", "noaux_tc", ErrorKind::kUnsupported,
       "only \"group_limited_greedy\""},
      {"deepseek_v2", "norm_topk_prob", true, ErrorKind::kUnsupported,
       "\"norm_topk_prob\" is true"},
      {"deepseek_v3", "num_key_value_heads", 2, ErrorKind::kUnsupported,
       "\"num_key_value_heads\" is 2, only 4"},
      {"deepseek_v3", "n_group", 3, ErrorKind::kCorruptFile,
       "\"n_group\" is 3, expected a divisor of the number of experts (16)"},
      {"deepseek_v3", "n_group", 16, ErrorKind::kCorruptFile,
       "at most the experts of topk_group groups (2)"},
      {"deepseek_v3", "topk_group", 5, ErrorKind::kCorruptFile,
       "\"topk_group\" is 5, expected at most n_group (4)"},
      {"deepseek_v3", "qk_rope_head_dim", 7, ErrorKind::kCorruptFile,
       "\"qk_rope_head_dim\" is 7, expected an even number"},
      {"deepseek_v3", "num_attention_heads", 1 << 21, ErrorKind::kUnsupported,
       "\"num_key_value_heads\" is 4"},
      {"qwen3_moe", "num_attention_heads", 1 << 21, ErrorKind::kCorruptFile,
       "\"num_attention_heads\" is 2097152, expected at most"},
      {"deepseek_v3", "sliding_window_pattern", 4, ErrorKind::kUnsupported,
       "the key \"sliding_window_pattern\""},
      {"deepseek_v3", "kv_lora_rank", Json(), ErrorKind::kMissing,
       "\"kv_lora_rank\" is null"},
      {"bailing_moe", "score_function", "tanh", ErrorKind::kUnsupported,
       "\"score_function\" is \"tanh\", only \"softmax\" can be run"},
      {"qwen3_next", "linear_num_value_heads", 3, ErrorKind::kCorruptFile,
       "is 3, expected a multiple of linear_num_key_heads (2)"},
      {"qwen3_next", "linear_value_head_dim", 1 << 21, ErrorKind::kCorruptFile,
       "\"linear_value_head_dim\" is 2097152, expected at most 1048576"},
      {"qwen3_next",
       "layer_types",
       {"full_attention", "sliding_attention", "linear_attention"},
       ErrorKind::kCorruptFile,
       "3 entries of \"linear_attention\" or \"full_attention\""},
      {"qwen3_next", "attn_output_gate", false, ErrorKind::kUnsupported,
       "\"attn_output_gate\" is false, only true"},
      {"qwen3_next", "attention_bias", true, ErrorKind::kUnsupported,
       "\"attention_bias\" is true"},
      {"qwen3_5_moe", "text_config", 4, ErrorKind::kCorruptFile,
       "\"text_config\" is 4, expected an object"},
      {"qwen3_5_moe", "rope_theta", 5, ErrorKind::kUnsupported,
       "config.json: mobe does not know the key \"rope_theta\""},
      {"bailing_moe", "partial_rotary_factor", 0.5, ErrorKind::kUnsupported,
       "\"partial_rotary_factor\" is 0.5"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    Json json = FixtureConfig(c.model);
    json[c.key] = c.value;
    ExpectError(c.kind, c.message, [&] { Read(json); });
  }
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
}  // namespace mobe::family_test
