// OLMoE (1B-7B): grouped-query attention with a norm over all query heads and
// one over all key heads, softmax router.
// Source: transformers 4.57, models/olmoe.
#include "families/common.h"

namespace mobe {
namespace {

ModelConfig ReadOlmoe(const ConfigReader& json) {
  ModelConfig c = ReadBasics(json, 1e-5);
  AttentionDefaults defaults;
  defaults.max_positions = 4096;
  ReadGroupedAttention(json, defaults, &c);
  c.query_key_norm = QueryKeyNorm::kWhole;
  c.qkv_bias = json.Bool("attention_bias", false);
  c.attention_output_bias = c.qkv_bias;
  Expect(json, "clip_qkv", Json());
  ReadExperts(json, "intermediate_size", &c);
  c.router.normalise = json.Bool("norm_topk_prob", false);
  CheckConfig(c, json);
  return c;
}

constexpr auto kOlmoeRows =
    JoinRows(kEmbeddingRows, kHeadRows, kGroupedAttentionRows, kLayerNormRows,
             kRouterRows, kExpertRows);

}  // namespace

// clang-tidy takes a constant of static storage for a variable.
extern const Family kOlmoe;  // NOLINT(readability-identifier-naming)
// NOLINTNEXTLINE(readability-identifier-naming)
const Family kOlmoe = {"olmoe", ReadOlmoe, kOlmoeRows};

}  // namespace mobe
