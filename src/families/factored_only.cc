#include "families/factored_only.h"

#include <algorithm>
#include <initializer_list>

#include "families/common.h"

namespace mobe {
namespace {

// A number that may stand for each layer in a list, the same in all.
int64_t SizeOf(const ConfigReader& json,
               std::initializer_list<const char*> keys) {
  const char* key = *keys.begin();
  for (const char* name : keys) {
    if (!json.Has(name)) continue;
    key = name;
    break;
  }
  if (!json.Value(key).is_array()) return json.Size(key);
  const std::vector<int64_t> each = json.Counts(key);
  if (each.empty() || each.front() < 1 ||
      std::ranges::count(each, each.front()) != std::ssize(each)) {
    json.Reject(key, "the same size in each layer");
  }
  return each.front();
}

ModelConfig ReadText(const ConfigReader& json) {
  ModelConfig c;
  c.hidden_size = json.Size("hidden_size");
  c.num_layers = SizeOf(json, {"num_hidden_layers", "num_layers"});
  c.expert_size = SizeOf(json, {"moe_intermediate_size", "moe_ffn_hidden_size",
                                "expert_ffn_hidden_size", "intermediate_size"});
  c.num_experts = SizeOf(json, {"num_experts", "num_local_experts",
                                "n_routed_experts", "moe_num_experts"});
  return c;
}

// Models with pictures or sound have what is of the text in a place of its own.
ModelConfig ReadFactoredOnly(const ConfigReader& json) {
  return json.Has("text_config") ? ReadText(json.Object("text_config"))
                                 : ReadText(json);
}

constexpr std::array<TensorRow, 3> RowsOf(const char* gate, const char* up,
                                          const char* down) {
  return {{{Role::kExpertGate, Scope::kExpert, gate, kExpert, kHidden},
           {Role::kExpertUp, Scope::kExpert, up, kExpert, kHidden},
           {Role::kExpertDown, Scope::kExpert, down, kHidden, kExpert}}};
}

// What the classes of the family know only stacked. Factors of single experts
// have the names of `rows`.
constexpr std::array<TensorRow, 3> StackedIn(const char* gate_up,
                                             const char* down,
                                             std::array<TensorRow, 3> rows) {
  rows[0].stacked = {gate_up, 0, 2, true};
  rows[1].stacked = {gate_up, 1, 2, true};
  rows[2].stacked = {down, 0, 1, true};
  return rows;
}

constexpr std::array<TensorRow, 3> InTurns(std::array<TensorRow, 3> rows) {
  for (TensorRow& row : rows) {
    row.stacked.stacking = Stacking::kTurnsTransposed;
  }
  return rows;
}

constexpr std::array<TensorRow, 3> MayBeStackedIn(
    const char* gate_up, const char* down, std::array<TensorRow, 3> rows) {
  rows = StackedIn(gate_up, down, rows);
  for (TensorRow& row : rows) row.stacked.always = false;
  return rows;
}

#define LAYER "model.layers.{layer}."
#define PROJECTIONS(block)                          \
  RowsOf(block "experts.{expert}.gate_proj.weight", \
         block "experts.{expert}.up_proj.weight",   \
         block "experts.{expert}.down_proj.weight")
#define NUMBERED(block)                      \
  RowsOf(block "experts.{expert}.w1.weight", \
         block "experts.{expert}.w3.weight", \
         block "experts.{expert}.w2.weight")
constexpr auto kMlpRows =
    MayBeStackedIn(LAYER "mlp.experts.gate_up_proj",
                   LAYER "mlp.experts.down_proj", PROJECTIONS(LAYER "mlp."));
constexpr auto kSparseRows = NUMBERED(LAYER "block_sparse_moe.");
constexpr auto kFeedForwardRows = NUMBERED(LAYER "feed_forward.");
constexpr auto kFfnRows = NUMBERED(LAYER "ffn.");
constexpr auto kGraniteRows =
    StackedIn(LAYER "block_sparse_moe.input_linear.weight",
              LAYER "block_sparse_moe.output_linear.weight",
              PROJECTIONS(LAYER "block_sparse_moe."));
constexpr auto kStackedMlpRows =
    StackedIn(LAYER "mlp.experts.gate_up_proj", LAYER "mlp.experts.down_proj",
              PROJECTIONS(LAYER "mlp."));
constexpr auto kGptOssRows = InTurns(kStackedMlpRows);
constexpr auto kGemma4Rows =
    StackedIn(LAYER "experts.gate_up_proj", LAYER "experts.down_proj",
              PROJECTIONS(LAYER));
#undef NUMBERED
#undef PROJECTIONS
#undef LAYER

constexpr Family OnlyFactored(const char* model_type,
                              std::span<const TensorRow> rows,
                              const char* prefix = "model.",
                              const Family* otherwise = nullptr) {
  return {model_type, ReadFactoredOnly, rows, false, otherwise, prefix};
}
constexpr char kText[] = "model.language_model.";
constexpr Family kDeepseekV4Saved = OnlyFactored("deepseek_v4", kFfnRows);
constexpr Family kKimiK25Saved = OnlyFactored("kimi_k25", kMlpRows, kText);
// Names as in the published files; where transformers 5.24 writes others, both.
constexpr Family kFactoredOnly[] = {
    OnlyFactored("afmoe", kMlpRows),
    OnlyFactored("bailing_hybrid", kMlpRows),
    OnlyFactored("cohere2_moe", kMlpRows),
    OnlyFactored("deepseek_v32", kMlpRows),
    OnlyFactored("deepseek_v4", kFfnRows, "", &kDeepseekV4Saved),
    OnlyFactored("dots1", kMlpRows),
    OnlyFactored("ernie4_5_moe", kMlpRows),
    OnlyFactored("exaone_moe", kMlpRows),
    OnlyFactored("flex_olmo", kMlpRows),
    OnlyFactored("gemma4", kGemma4Rows, kText),
    OnlyFactored("gemma4_text", kGemma4Rows),
    OnlyFactored("glm4v_moe", kMlpRows, kText),
    OnlyFactored("glm4_moe_lite", kMlpRows),
    OnlyFactored("glm5_next", kMlpRows, kText),
    OnlyFactored("glm_moe_dsa", kMlpRows),
    OnlyFactored("gpt_oss", kGptOssRows),
    OnlyFactored("granitemoe", kGraniteRows),
    OnlyFactored("granitemoehybrid", kGraniteRows),
    OnlyFactored("granitemoeshared", kGraniteRows),
    OnlyFactored("hunyuan_v1_moe", kMlpRows),
    OnlyFactored("hy_v4", kStackedMlpRows),
    OnlyFactored("kimi_k25", kMlpRows, "language_model.model.", &kKimiK25Saved),
    OnlyFactored("kimi_linear", kSparseRows),
    OnlyFactored("lfm2_moe", kFeedForwardRows),
    OnlyFactored("longcat_flash", kMlpRows),
    OnlyFactored("mellum", kMlpRows),
    OnlyFactored("mimo_v2_flash", kMlpRows),
    OnlyFactored("minimax", kSparseRows),
    OnlyFactored("minimax_m3_vl", kSparseRows, "language_model.model."),
    OnlyFactored("phimoe", kSparseRows),
    OnlyFactored("qwen4_exp", kMlpRows, kText),
    OnlyFactored("qwen4_exp_text", kMlpRows),
    OnlyFactored("solar_open", kMlpRows),
};

}  // namespace

std::span<const Family> FactoredOnly() { return kFactoredOnly; }

}  // namespace mobe
