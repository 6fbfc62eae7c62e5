// Every hostile input of tests/data/hostile, opened as a user would. What each
// of the single files must say is in io/hostile_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <map>

#include "compress/testing.h"
#include "compress/verify.h"
#include "fit/method.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const fs::path kHostile = Fixture("hostile");

// By folder: what the message says after the folder's name, in order. Nothing:
// it opens.
const std::map<std::string, std::vector<std::string>> kMessages = {
    {"ok_control", {}},
    {"ok_control_sharded", {}},
    {"index_missing_shard",
     {"/model-00002-of-00002.safetensors: not there, but",
      "/model.safetensors.index.json names it",
      "'hf download MODEL model-00002-of-00002.safetensors --local-dir"}},
    {"index_traversal",
     {"/model.safetensors.index.json: tensor \"model.", "its file is \"../"}},
    {"index_absolute_path",
     {"/model.safetensors.index.json: tensor \"model.", "its file is \"/"}},
    {"index_wrong_shard",
     {"/model-00002-of-00002.safetensors: tensor \"model.",
      "is in this file, but ", "says it is in"}},
    {"index_not_string",
     {"/model.safetensors.index.json: tensor \"model.",
      "expected the plain name"}},
    {"index_no_weight_map",
     {"/model.safetensors.index.json: no object \"weight_map\""}},
    {"index_bad_json", {"/model.safetensors.index.json: invalid JSON"}},
    {"index_omits_tensor",
     {"/model-0000", "tensor \"model.", "is not in the index"}},
    {"shard_truncated",
     {"/model-00002-of-00002.safetensors: cut off", "tensor \"model."}},
    {"tensor_missing",
     {": no tensor model.layers.0.mlp.experts.1.up_proj.weight, expected one "
      "of shape [8, 16]"}},
    {"norm_missing", {": no tensor model.norm.weight, expected one of"}},
    {"wrong_shape_expert",
     {"/model.safetensors: tensor model.layers.0.mlp.experts.1.up_proj.weight "
      "has shape [16, 8], expected [8, 16]"}},
    {"wrong_shape_embed",
     {"/model.safetensors: tensor model.embed_tokens.weight has shape [31, "
      "16], expected [32, 16]"}},
    {"wrong_rank",
     {"/model.safetensors: tensor model.layers.0.self_attn.q_proj.weight has "
      "shape [256], expected [16, 16]"}},
    {"nan_weight", {}},
    {"inf_weight", {}},
    {"all_zero_experts", {}},
    {"config_missing",
     {"/config.json: not there, so this is no model's folder"}},
    {"config_empty", {"/config.json: invalid JSON"}},
    {"config_deep_nesting", {"/config.json: ", "deeper than 64"}},
    {"config_non_utf8", {"/config.json: invalid JSON", "UTF-8"}},
    {"config_hidden_huge",
     {"/model.safetensors: tensor model.embed_tokens.weight has shape [32, "
      "16], expected [32, 2147483647]"}},
    {"config_hidden_overflow",
     {"/config.json: \"hidden_size\" is 9223372036854775808, expected"}},
    {"config_layers_huge",
     {"/config.json: the number of layers is 2000000000, but the folder holds "
      "only 24 tensors"}},
    {"config_experts_huge",
     {"/config.json: \"num_experts\" is 1000000000000, expected"}},
    {"config_vocab_negative", {"/config.json: \"vocab_size\" is -32"}},
    {"config_zero_heads", {"/config.json: \"num_attention_heads\" is 0"}},
    {"config_zero_kv_heads", {"/config.json: \"num_key_value_heads\" is 0"}},
    {"config_heads_not_divisible",
     {"/config.json: \"num_attention_heads\" is 3, expected a multiple"}},
    {"config_topk_over_experts",
     {"/config.json: \"num_experts_per_tok\" is 5, expected at most"}},
    {"config_topk_zero", {"/config.json: \"num_experts_per_tok\" is 0"}},
    {"config_topk_negative", {"/config.json: \"num_experts_per_tok\" is -1"}},
    {"config_type_string", {"/config.json: \"hidden_size\" is \"sixteen\""}},
    {"config_type_float", {"/config.json: \"hidden_size\" is 16.5"}},
    {"config_type_null", {"/config.json: \"hidden_size\" is null"}},
    {"config_head_dim_odd",
     {"/config.json: \"head_dim\" is 7, expected an even"}},
    {"config_unknown_arch", {"/config.json: model_type \"gpt_oss_x\" is not"}},
    {"config_unknown_act", {"/config.json: hidden_act \"relu6x\""}},
    {"config_unknown_rope", {"/config.json: rope_scaling: ", "\"bogus\""}},
    {"config_rope_factor_zero",
     {"/config.json: rope_scaling: \"factor\" is 0.0, expected"}},
    {"config_fewer_layers_than_needed",
     {": no tensor model.layers.1.self_attn.q_proj.weight, expected one of"}},
    {"config_mobe_bad_num_B", {}},
    {"config_quant_unknown", {"/config.json: ", "quant_method \"zzz\""}},
    {"config_quant_zero_block",
     {"/config.json: quantization_config: \"weight_block_size\" is [0,128]"}},
    {"config_ds_groups_not_divisible",
     {"/config.json: \"n_group\" is 4, expected a divisor"}},
    {"config_ds_topk_group_over",
     {"/config.json: \"topk_group\" is 9, expected at most"}},
};

Json Entries() {
  return ParseJson(ReadSmallFile(kHostile / "manifest.json"), "manifest.json")
      .at("entries");
}

void ExpectMessage(const fs::path& path, const std::string& message) {
  const auto& expected = kMessages.at(path.filename());
  EXPECT_EQ(message.empty(), expected.empty()) << message;
  EXPECT_LT(message.size(), 1000u);
  std::string_view rest = message;
  for (const std::string& part : expected) {
    const size_t at = rest.find(part);
    ASSERT_NE(at, rest.npos) << message << "\nexpected: " << part;
    rest.remove_prefix(at + part.size());
  }
  if (expected.empty()) return;
  EXPECT_THAT(message, HasSubstr(path.string()));
}

// "error" must fail, "ok", "loads" and "as ..." must open; "error, or loads"
// may do either. None may fail as a bug of ours or with another exception.
TEST(HostileTest, EveryInputOfTheManifest) {
  const Json entries = Entries();
  size_t as_expected = 0;
  size_t checkpoints = 0;
  for (const Json& entry : entries) {
    const fs::path path = kHostile / entry.at("path").get<std::string>();
    const bool is_file = entry.at("kind") == "safetensors";
    const std::string expect = entry.at("expect");
    SCOPED_TRACE(path.filename());
    const auto error = ErrorOf([&] {
      if (is_file) {
        const SafetensorsFile file(path);
      } else {
        OpenModel(path);
      }
    });
    EXPECT_FALSE(error && error->kind() == ErrorKind::kInternal)
        << error->what();
    if (!is_file) {
      ++checkpoints;
      ExpectMessage(path, error ? error->what() : "");
    }
    const bool may_fail = expect.starts_with("error");
    const bool may_open = !may_fail || expect.find(" or ") != std::string::npos;
    EXPECT_TRUE(error ? may_fail : may_open) << expect;
    if (!HasFailure()) ++as_expected;
  }
  EXPECT_EQ(checkpoints, kMessages.size());
  EXPECT_EQ(as_expected, entries.size());
  std::cout << as_expected << " of " << entries.size()
            << " hostile inputs behave as expected\n";
}

// With and without shared bases: nothing may be divided by a deviation of 0.
TEST(HostileTest, CompressAndVerifyExpertsOfZeros) {
  const fs::path model = kHostile / "checkpoints/all_zero_experts";
  for (const Method* solver : Solvers()) {
    for (const int64_t num_bases : {1, 2}) {
      TempFolder out;
      CompressOptions options = QuickOptions(num_bases);
      options.solver = solver;
      const CompressReport report = RunCompress(model, options, out.path());
      EXPECT_EQ(report.matrices[0].kind, "gate");  // all zeros
      EXPECT_LT(report.matrices[0].error.scaled_mse, 1e-3);
      const VerifyReport verified =
          Verify(out.path(), OpenModel(model), [](const ProgressEvent&) {});
      EXPECT_THAT(verified.faults, ::testing::IsEmpty());
    }
  }
}

TEST(HostileTest, CompressRefusesWhatIsNotFinite) {
  const std::pair<const char*, const char*> cases[] = {
      {"nan_weight", "(nan at element "}, {"inf_weight", "(inf at element "}};
  for (const auto& [name, message] : cases) {
    SCOPED_TRACE(name);
    const fs::path model = kHostile / "checkpoints" / name;
    for (const int64_t num_bases : {1, 2}) {
      TempFolder out;
      const auto error = ErrorOf(
          [&] { RunCompress(model, QuickOptions(num_bases), out.path()); });
      ASSERT_TRUE(error);
      EXPECT_EQ(error->kind(), ErrorKind::kCorruptFile);
      EXPECT_THAT(
          error->what(),
          HasSubstr((model / "model.safetensors: tensor model.").string()));
      EXPECT_THAT(error->what(), HasSubstr(message));
      EXPECT_FALSE(fs::exists(out / "config.json"));
    }
  }
}

// Its stray num_B must not survive, nor make verify see another config.
TEST(HostileTest, CompressAStrayNumB) {
  const fs::path model = kHostile / "checkpoints/config_mobe_bad_num_B";
  TempFolder out;
  RunCompress(model, QuickOptions(2), out.path());
  EXPECT_EQ(OpenModel(out.path()).mobe->factors[0].num_bases, 2);
  const VerifyReport verified =
      Verify(out.path(), OpenModel(model), [](const ProgressEvent&) {});
  EXPECT_EQ(verified.faults.size(), 0u);
}

}  // namespace
}  // namespace mobe
