// Reading where a config has its rotary embedding: rope_theta at the top and
// the rest in rope_scaling (transformers 4), all of it in rope_parameters
// (transformers 5), or mixtures of the two that converters leave. Formulas as
// in transformers 4.57 and 5, modeling_rope_utils.
#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "families/common.h"

namespace mobe {

double YarnScale(double factor, double m) {
  return factor <= 1 ? 1 : 0.1 * m * std::log(factor) + 1;
}

int64_t PositionsOf(const Rope& rope, int64_t max_positions) {
  if (rope.type == RopeType::kLongRope) {
    return std::min(max_positions, rope.original_positions);
  }
  if (rope.type != RopeType::kYarn) return max_positions;
  const double extended =
      rope.factor * static_cast<double>(rope.original_positions);
  return std::max(max_positions, static_cast<int64_t>(std::min<double>(
                                     extended, kMaxConfigSize)));
}

namespace {

void ReadFactor(const ConfigReader& json, int64_t /*max_positions*/,
                Rope* rope) {
  rope->factor = json.Number("factor", 0);
  if (!(rope->factor >= 1)) json.Reject("factor", "a number from 1");
}

void ReadYarn(const ConfigReader& json, int64_t max_positions, Rope* rope) {
  ReadFactor(json, max_positions, rope);
  // Turns are counted by its logarithm.
  if (!(rope->theta > 1)) {
    Fail(ErrorKind::kCorruptFile,
         "{}: rope_theta is {}, expected above 1 for yarn", json.source(),
         rope->theta);
  }
  rope->beta_fast = json.Number("beta_fast", 32);
  rope->beta_slow = json.Number("beta_slow", 1);
  if (!(rope->beta_slow > 0)) json.Reject("beta_slow", "above 0");
  if (!(rope->beta_fast >= rope->beta_slow)) {
    json.Reject("beta_fast", "at least beta_slow");
  }
  if (!json.Bool("truncate", true)) {
    Fail(ErrorKind::kUnsupported, "{}: \"truncate\" false can't be run yet",
         json.source());
  }
  const double m = json.Number("mscale", 0);
  const double all = json.Number("mscale_all_dim", 0);
  // Where a model scales all of attention, only the rest is left for cosines
  // and sines.
  const double inferred = m != 0 && all != 0 ? YarnScale(rope->factor, m) /
                                                   YarnScale(rope->factor, all)
                                             : YarnScale(rope->factor, 1);
  rope->amplitude =
      static_cast<float>(json.Number("attention_factor", inferred));
  rope->attention_scale = YarnScale(rope->factor, all);
}

void ReadLlama3(const ConfigReader& json, int64_t max_positions, Rope* rope) {
  ReadFactor(json, max_positions, rope);
  rope->beta_fast = json.Number("high_freq_factor", 4);
  rope->beta_slow = json.Number("low_freq_factor", 1);
  if (!(rope->beta_slow > 0)) json.Reject("low_freq_factor", "above 0");
  if (!(rope->beta_fast > rope->beta_slow)) {
    json.Reject("high_freq_factor", "above low_freq_factor");
  }
}

std::vector<double> PairFactors(const ConfigReader& json, const char* key,
                                int64_t pairs) {
  const Json& list = json.Value(key);
  const auto is_factor = [](const Json& factor) {
    return factor.is_number() && std::isfinite(factor.get<double>()) &&
           factor.get<double>() > 0;
  };
  if (!list.is_array() || std::ssize(list) != pairs ||
      !std::ranges::all_of(list, is_factor)) {
    json.Reject(key, fmt::format("{} numbers above 0, one for each pair that "
                                 "is rotated",
                                 pairs));
  }
  return list.get<std::vector<double>>();
}

void ReadLongRope(const ConfigReader& json, int64_t max_positions, Rope* rope) {
  rope->pair_factors = PairFactors(json, "short_factor", rope->dim / 2);
  PairFactors(json, "long_factor", rope->dim / 2);  // not used: PositionsOf
  const auto original = static_cast<double>(rope->original_positions);
  const double factor =
      json.Number("factor", static_cast<double>(max_positions) / original);
  const double inferred =
      factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
  rope->amplitude =
      static_cast<float>(json.Number("attention_factor", inferred));
  if (!std::isfinite(rope->amplitude)) {
    Fail(ErrorKind::kCorruptFile,
         "{}: original_max_position_embeddings is {}, expected 2 or more",
         json.source(), rope->original_positions);
  }
}

struct TypeRow {
  const char* name;
  RopeType type;
  void (*read)(const ConfigReader& json, int64_t max_positions, Rope* rope);
};
constexpr TypeRow kTypes[] = {
    {"default", RopeType::kDefault, nullptr},
    // Changes with the length of a text, from the positions of training on,
    // which are the most that mobe takes then.
    {"dynamic", RopeType::kDefault, ReadFactor},
    {"linear", RopeType::kLinear, ReadFactor},
    {"llama3", RopeType::kLlama3, ReadLlama3},
    {"longrope", RopeType::kLongRope, ReadLongRope},
    {"yarn", RopeType::kYarn, ReadYarn},
};

// What rope_scaling or rope_parameters says, but for what stands at the top,
// too.
Rope ReadScaling(const ConfigReader& json, Rope rope, int64_t max_positions,
                 bool has_grids) {
  // "type" is the older name.
  const std::string name =
      json.String(json.OneOf({"rope_type", "type"}), "default");
  const auto* const row = std::ranges::find(kTypes, name, &TypeRow::name);
  if (row == std::end(kTypes)) {
    Fail(ErrorKind::kUnsupported, "{}: rope type \"{}\" can't be run yet",
         json.source(), name);
  }
  rope.type = row->type;
  if (row->read != nullptr) row->read(json, max_positions, &rope);
  if (rope.type == RopeType::kDefault) rope.factor = 1;
  constexpr const char* kGridKeys[] = {"mrope_section", "mrope_interleaved"};
  json.RefuseOthers(std::span(kGridKeys).first(has_grids ? 2 : 0));
  return rope;
}

// Of all places that may have it; they must agree.
double ReadNumber(const std::vector<ConfigReader>& places, const char* key,
                  double fallback) {
  std::optional<double> number;
  std::string from;
  for (const ConfigReader& place : places) {
    if (!place.Has(key)) continue;
    const double value = place.Number(key, 0);
    if (!(value > 0)) place.Reject(key, "above 0");
    if (number && *number != value) {
      Fail(ErrorKind::kUnsupported,
           "{}: \"{}\" is {}, but {} in {}; remove the wrong one",
           place.source(), key, value, *number, from);
    }
    number = value;
    from = place.source();
  }
  return number.value_or(fallback);
}

// In some configs (Phi's) beside the scaling, not in it.
int64_t ReadOriginalPositions(const std::vector<ConfigReader>& places,
                              int64_t max_positions) {
  constexpr char kKey[] = "original_max_position_embeddings";
  for (const ConfigReader& place : places) place.Size(kKey, max_positions);
  return static_cast<int64_t>(
      ReadNumber(places, kKey, static_cast<double>(max_positions)));
}

int64_t RotatedNumbers(const std::vector<ConfigReader>& places,
                       int64_t head_dim, std::optional<double> share) {
  constexpr char kKey[] = "partial_rotary_factor";
  if (!share) {
    for (const ConfigReader& place : places) Expect(place, kKey, 1);
    return head_dim;
  }
  const double found = ReadNumber(places, kKey, *share);
  if (found > 1) places.front().Reject(kKey, "at most 1");
  return static_cast<int64_t>(static_cast<double>(head_dim) * found);
}

// Latent attention has a size of its own of what is rotated.
[[noreturn]] void RejectHeadDim(const ConfigReader& json, int64_t head_dim,
                                const Rope& rope) {
  const std::string expected =
      fmt::format("an even number for rotary pairs, 2 or more{}",
                  rope.dim == head_dim
                      ? ""
                      : fmt::format(" (of which {} are rotated)", rope.dim));
  for (const char* key : {"qk_rope_head_dim", "head_dim"}) {
    if (json.Has(key)) json.Reject(key, expected);
  }
  Fail(ErrorKind::kMissing,
       "{}: \"head_dim\" is missing, and hidden_size / num_attention_heads is "
       "{}, expected {}",
       json.source(), head_dim, expected);
}

}  // namespace

Rope ReadRope(const ConfigReader& reader, int64_t head_dim,
              int64_t max_positions, double theta,
              std::optional<double> rotated_share, bool has_grids) {
  std::vector<ConfigReader> places = {reader};
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!reader.Value(key).empty()) places.push_back(reader.Object(key));
  }
  Rope rope;
  rope.dim = RotatedNumbers(places, head_dim, rotated_share);
  // Also 0, where more heads than the hidden size has numbers set it.
  if (rope.dim < 2 || rope.dim % 2 != 0) RejectHeadDim(reader, head_dim, rope);
  rope.theta = ReadNumber(places, "rope_theta", theta);
  rope.original_positions = ReadOriginalPositions(places, max_positions);
  std::optional<Rope> scaled;
  for (size_t i = 1; i < places.size(); ++i) {
    const Rope found = ReadScaling(places[i], rope, max_positions, has_grids);
    if (scaled && found != *scaled) {
      Fail(ErrorKind::kUnsupported,
           "{}: \"rope_scaling\" and \"rope_parameters\" are both there and "
           "disagree; remove the wrong one",
           reader.source());
    }
    scaled = found;
  }
  return scaled.value_or(rope);
}

}  // namespace mobe
