#include "families/common.h"

#include <cmath>

namespace mobe {

ModelConfig ReadBasics(const ConfigReader& json, double rms_norm_eps) {
  ModelConfig c;
  c.vocab_size = json.Size("vocab_size");
  c.hidden_size = json.Size("hidden_size");
  c.num_layers = json.Size("num_hidden_layers");
  c.rms_norm_eps =
      static_cast<float>(json.Number("rms_norm_eps", rms_norm_eps));
  c.tie_embeddings = json.Bool("tie_word_embeddings", false);
  return c;
}

void ReadGroupedAttention(const ConfigReader& json,
                          const AttentionDefaults& defaults, ModelConfig* c) {
  c->num_heads = json.Size("num_attention_heads");
  c->num_kv_heads = json.Size("num_key_value_heads", c->num_heads);
  c->head_dim = json.Size("head_dim", c->hidden_size / c->num_heads);
  c->head_dim_inferred = !json.Has("head_dim");
  c->value_dim = c->head_dim;
  c->max_positions =
      json.Size("max_position_embeddings", defaults.max_positions);
  c->rope = ReadRope(json, c->head_dim, c->max_positions, defaults.rope_theta,
                     defaults.rotated_share, defaults.has_grids);
  c->max_positions = PositionsOf(c->rope, c->max_positions);
  c->attention_scale = 1 / std::sqrt(static_cast<float>(c->head_dim));
}

void ReadExperts(const ConfigReader& json, const char* expert_size,
                 ModelConfig* c) {
  c->expert_size = json.Size(expert_size);
  c->num_experts = json.Size(
      json.OneOf({"num_experts", "num_local_experts", "n_routed_experts"}));
  c->experts_per_token = json.Size("num_experts_per_tok");
}

void ReadSigmoidRouter(const ConfigReader& json, const RouterRule& missing,
                       ModelConfig* c) {
  c->router.scoring = Scoring::kSigmoid;
  c->router.bias = true;
  c->router.normalise = json.Bool("norm_topk_prob", missing.normalise);
  c->router.scale =
      static_cast<float>(json.Number("routed_scaling_factor", missing.scale));
  ReadGroups(json, missing, c);
}

std::vector<int64_t> ListLayers(const ConfigReader& json, const char* key,
                                const char* wanted, const char* other,
                                const ModelConfig& c) {
  const Json& kinds = json.Value(key);
  const std::string expected = fmt::format("{} entries of \"{}\" or \"{}\"",
                                           c.num_layers, wanted, other);
  if (!kinds.is_array() || kinds.size() != static_cast<size_t>(c.num_layers)) {
    json.Reject(key, expected);
  }
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    const Json& kind = kinds[static_cast<size_t>(layer)];
    if (kind == wanted) {
      layers.push_back(layer);
    } else if (kind != other) {
      json.Reject(key, expected);
    }
  }
  return layers;
}

void ReadGroups(const ConfigReader& json, const RouterRule& missing,
                ModelConfig* c) {
  RouterRule* router = &c->router;
  router->groups = json.Size("n_group", missing.groups);
  router->kept_groups =
      json.Size("topk_group", std::min(missing.kept_groups, router->groups));
  if (c->num_experts % router->groups != 0) {
    json.Reject(
        "n_group",
        fmt::format("a divisor of the number of experts ({})", c->num_experts));
  }
  const int64_t group = c->num_experts / router->groups;
  if (router->kept_groups > router->groups) {
    json.Reject("topk_group",
                fmt::format("at most n_group ({})", router->groups));
  }
  if (c->experts_per_token > router->kept_groups * group) {
    json.Reject("num_experts_per_tok",
                fmt::format("at most the experts of topk_group groups ({})",
                            router->kept_groups * group));
  }
  if (router->bias && router->groups > 1 && group < 2) {
    json.Reject("n_group", "groups of two experts at least");
  }
}

}  // namespace mobe
