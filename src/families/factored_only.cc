#include "families/factored_only.h"

#include <algorithm>
#include <initializer_list>

#include "families/common.h"

namespace mobe {
namespace {

// The first of the keys that is there; of none, the first.
const char* KeyOf(const ConfigReader& json,
                  std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (json.Has(key)) return key;
  }
  return *keys.begin();
}

// A number that may stand for each layer in a list, the same in all.
int64_t SizeOf(const ConfigReader& json,
               std::initializer_list<const char*> keys) {
  const char* key = KeyOf(json, keys);
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

// Models with pictures or sound have what is of the text in a place of its own;
// those that also speak, in the part that thinks.
ConfigReader TextOf(const ConfigReader& json) {
  ConfigReader text = json;
  for (const char* key : {"thinker_config", "text_config"}) {
    if (text.Has(key)) text = text.Object(key);
  }
  return text;
}

ModelConfig ReadFactoredOnly(const ConfigReader& json) {
  return ReadText(TextOf(json));
}

// Lists are of text and pictures, whose experts have other sizes, and are taken
// over as they are: they have the numbers behind those of the text.
ModelConfig ReadErnieVl(const ConfigReader& json) {
  const ConfigReader text = TextOf(json);
  const auto first = [&](const char* key) {
    const std::vector<int64_t> each = text.Counts(key);
    if (each.empty() || each.front() < 1) text.Reject(key, "a size first");
    return each.front();
  };
  ModelConfig c;
  c.hidden_size = text.Size("hidden_size");
  c.num_layers = text.Size("num_hidden_layers");
  c.expert_size = first("moe_intermediate_size");
  c.num_experts = first("moe_num_experts");
  return c;
}

ModelConfig ReadDbrx(const ConfigReader& json) {
  const ConfigReader ffn = json.Object("ffn_config");
  ModelConfig c;
  c.hidden_size = json.Size("d_model");
  c.num_layers = json.Size("n_layers");
  c.expert_size = ffn.Size("ffn_hidden_size");
  c.num_experts = ffn.Size("moe_num_experts");
  return c;
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

// The same with gate and up in a tensor each.
constexpr std::array<TensorRow, 3> StackedIn(const char* gate, const char* up,
                                             const char* down,
                                             std::array<TensorRow, 3> rows) {
  rows[0].stacked = {gate, 0, 1, true};
  rows[1].stacked = {up, 0, 1, true};
  rows[2].stacked = {down, 0, 1, true};
  return rows;
}

constexpr std::array<TensorRow, 3> Lying(Stacking stacking,
                                         std::array<TensorRow, 3> rows) {
  for (TensorRow& row : rows) row.stacked.stacking = stacking;
  return rows;
}

constexpr std::array<TensorRow, 3> AsMatrices(std::array<TensorRow, 3> rows) {
  for (TensorRow& row : rows) row.stacked.is_matrix = true;
  rows[2].stacked.stacking = Stacking::kPartsTransposed;
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
constexpr auto kGptOssRows = Lying(Stacking::kTurnsTransposed, kStackedMlpRows);
constexpr auto kQwen3VlRows =
    Lying(Stacking::kPartsTransposed, kStackedMlpRows);
constexpr auto kLlama4Rows =
    Lying(Stacking::kPartsTransposed,
          StackedIn(LAYER "feed_forward.experts.gate_up_proj",
                    LAYER "feed_forward.experts.down_proj",
                    PROJECTIONS(LAYER "feed_forward.")));
constexpr auto kJambaRows = MayBeStackedIn(
    LAYER "feed_forward.experts.gate_up_proj",
    LAYER "feed_forward.experts.down_proj", PROJECTIONS(LAYER "feed_forward."));
constexpr auto kStepRows =
    StackedIn(LAYER "moe.gate_proj.weight", LAYER "moe.up_proj.weight",
              LAYER "moe.down_proj.weight", PROJECTIONS(LAYER "moe."));
constexpr auto kErnieVlSavedRows = StackedIn(
    LAYER "mlp.text_moe.experts.gate_up_proj",
    LAYER "mlp.text_moe.experts.down_proj", PROJECTIONS(LAYER "mlp.text_moe."));
#define EXPERTS "transformer.blocks.{layer}.ffn.experts.mlp."
constexpr auto kDbrxRows = AsMatrices(
    StackedIn(EXPERTS "w1", EXPERTS "v1", EXPERTS "w2",
              RowsOf("transformer.blocks.{layer}.ffn.experts.{expert}.w1",
                     "transformer.blocks.{layer}.ffn.experts.{expert}.v1",
                     "transformer.blocks.{layer}.ffn.experts.{expert}.w2")));
#undef EXPERTS
constexpr auto kGemma4Rows =
    StackedIn(LAYER "experts.gate_up_proj", LAYER "experts.down_proj",
              PROJECTIONS(LAYER));
#undef NUMBERED
#undef PROJECTIONS
#undef LAYER

using ReadConfig = ModelConfig (*)(const ConfigReader&);
constexpr Family OnlyFactored(const char* model_type,
                              std::span<const TensorRow> rows,
                              const char* prefix = "model.",
                              const Family* otherwise = nullptr,
                              ReadConfig read = ReadFactoredOnly) {
  return {model_type, read, rows, false, otherwise, prefix};
}
constexpr char kText[] = "model.language_model.";
constexpr Family kDeepseekV4Saved = OnlyFactored("deepseek_v4", kFfnRows);
constexpr Family kErnieVlSaved = OnlyFactored(
    "ernie4_5_vl_moe", kErnieVlSavedRows, kText, nullptr, ReadErnieVl);
constexpr Family kKimiK25Saved = OnlyFactored("kimi_k25", kMlpRows, kText);
constexpr Family kOmniSaved =
    OnlyFactored("qwen3_omni_moe", kMlpRows, "thinker.model.language_model.");
constexpr Family kThinkerSaved =
    OnlyFactored("qwen3_omni_moe_thinker", kMlpRows, kText);
constexpr Family kStep3p7Saved =
    OnlyFactored("step3p7", kStackedMlpRows, kText);
// Names as in the published files; where transformers 5.24 writes others, both.
constexpr Family kFactoredOnly[] = {
    OnlyFactored("afmoe", kMlpRows),
    OnlyFactored("bailing_hybrid", kMlpRows),
    OnlyFactored("cohere2_moe", kMlpRows),
    OnlyFactored("dbrx", kDbrxRows, "model.", nullptr, ReadDbrx),
    OnlyFactored("deepseek_v32", kMlpRows),
    OnlyFactored("deepseek_v4", kFfnRows, "", &kDeepseekV4Saved),
    OnlyFactored("dots1", kMlpRows),
    OnlyFactored("ernie4_5_moe", kMlpRows),
    OnlyFactored("ernie4_5_moe_vl", kMlpRows, "model.", nullptr, ReadErnieVl),
    OnlyFactored("ernie4_5_vl_moe", kMlpRows, "model.", &kErnieVlSaved,
                 ReadErnieVl),
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
    OnlyFactored("jamba", kJambaRows),
    OnlyFactored("kimi_k25", kMlpRows, "language_model.model.", &kKimiK25Saved),
    OnlyFactored("kimi_linear", kSparseRows),
    OnlyFactored("lfm2_moe", kFeedForwardRows),
    OnlyFactored("llama4", kLlama4Rows, "language_model.model."),
    OnlyFactored("llama4_text", kLlama4Rows),
    OnlyFactored("longcat_flash", kMlpRows),
    OnlyFactored("mellum", kMlpRows),
    OnlyFactored("mimo_v2_flash", kMlpRows),
    OnlyFactored("minimax", kSparseRows),
    OnlyFactored("minimax_m3_vl", kSparseRows, "language_model.model."),
    OnlyFactored("phimoe", kSparseRows),
    OnlyFactored("qwen3_omni_moe", kMlpRows, "thinker.model.", &kOmniSaved),
    OnlyFactored("qwen3_omni_moe_thinker", kMlpRows, "model.", &kThinkerSaved),
    OnlyFactored("qwen3_vl_moe", kQwen3VlRows, kText),
    OnlyFactored("qwen4_exp", kMlpRows, kText),
    OnlyFactored("qwen4_exp_text", kMlpRows),
    OnlyFactored("solar_open", kMlpRows),
    OnlyFactored("step3p5", kStepRows),
    OnlyFactored("step3p7", kStepRows, "model.", &kStep3p7Saved),
};

}  // namespace

std::span<const Family> FactoredOnly() { return kFactoredOnly; }

}  // namespace mobe
