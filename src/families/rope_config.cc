// Reading where a config has its rotary embedding: rope_theta at the top and
// the rest in rope_scaling (transformers 4), all of it in rope_parameters
// (transformers 5), or mixtures of the two that converters leave. Formulas as
// in transformers 4.57 and 5, modeling_rope_utils.
#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "families/common.h"

namespace mobe {

double YarnScale(double factor, double m) {
  return factor <= 1 ? 1 : 0.1 * m * std::log(factor) + 1;
}

int64_t ExtendedPositions(const Rope& rope, int64_t max_positions) {
  if (rope.factor == 1) return max_positions;
  const double extended =
      rope.factor * static_cast<double>(rope.original_positions);
  return std::max(max_positions, static_cast<int64_t>(std::min<double>(
                                     extended, kMaxConfigSize)));
}

namespace {

void ReadYarn(const ConfigReader& json, int64_t max_positions, Rope* rope) {
  rope->factor = json.Number("factor", 0);
  if (!(rope->factor >= 1)) json.Reject("factor", "a number from 1");
  rope->original_positions =
      json.Size("original_max_position_embeddings", max_positions);
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

// What rope_scaling or rope_parameters says, but for rope_theta.
Rope ReadScaling(const ConfigReader& json, Rope rope, int64_t max_positions) {
  // "type" is the older name.
  const std::string type =
      json.String(json.OneOf({"rope_type", "type"}), "default");
  Expect(json, "partial_rotary_factor", 1);
  if (type == "yarn") {
    // Turns are counted by its logarithm.
    if (!(rope.theta > 1)) {
      Fail(ErrorKind::kCorruptFile,
           "{}: rope_theta is {}, expected above 1 for yarn", json.source(),
           rope.theta);
    }
    ReadYarn(json, max_positions, &rope);
  } else if (type != "default") {
    Fail(ErrorKind::kUnsupported, "{}: rope type \"{}\" can't be run yet",
         json.source(), type);
  }
  json.RefuseOthers();
  return rope;
}

// Of all places that may have it; they must agree.
double ReadTheta(const std::vector<ConfigReader>& places) {
  constexpr char kKey[] = "rope_theta";
  std::optional<double> theta;
  std::string from;
  for (const ConfigReader& place : places) {
    if (!place.Has(kKey)) continue;
    const double value = place.Number(kKey, 0);
    if (!(value > 0)) place.Reject(kKey, "above 0");
    if (theta && *theta != value) {
      Fail(ErrorKind::kUnsupported,
           "{}: \"{}\" is {}, but {} in {}; remove the wrong one",
           place.source(), kKey, value, *theta, from);
    }
    theta = value;
    from = place.source();
  }
  return theta.value_or(10000.0);
}

}  // namespace

Rope ReadRope(const ConfigReader& reader, int64_t dim, int64_t max_positions) {
  Expect(reader, "partial_rotary_factor", 1);
  // Also 0, where more heads than the hidden size has numbers set it.
  if (dim < 2 || dim % 2 != 0) {
    Fail(ErrorKind::kCorruptFile,
         "{}: head_dim is {}, expected an even number for rotary pairs, 2 or "
         "more",
         reader.source(), dim);
  }
  std::vector<ConfigReader> places = {reader};
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!reader.Value(key).empty()) places.push_back(reader.Object(key));
  }
  Rope rope;
  rope.dim = dim;
  rope.theta = ReadTheta(places);
  std::optional<Rope> scaled;
  for (size_t i = 1; i < places.size(); ++i) {
    const Rope found = ReadScaling(places[i], rope, max_positions);
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
