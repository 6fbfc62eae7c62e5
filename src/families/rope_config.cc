// Reading rope_theta and rope_scaling, as in transformers 4.57,
// modeling_rope_utils.
#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "families/family.h"

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
}

}  // namespace

Rope ReadRope(const ConfigReader& reader, int64_t dim, int64_t max_positions) {
  Rope rope;
  rope.theta = reader.Number("rope_theta", 10000.0);
  rope.dim = dim;
  if (!(rope.theta > 0)) reader.Reject("rope_theta", "above 0");
  // Also 0, where more heads than the hidden size has numbers set it.
  if (dim < 2 || dim % 2 != 0) {
    Fail(ErrorKind::kCorruptFile,
         "{}: head_dim is {}, expected an even number for rotary pairs, 2 or "
         "more",
         reader.source(), dim);
  }
  if (!reader.Has("rope_scaling")) return rope;
  const ConfigReader scaling = reader.Object("rope_scaling");
  const std::string type =
      scaling.String("rope_type", scaling.String("type", "default"));
  if (type == "yarn") {
    // Turns are counted by its logarithm.
    if (!(rope.theta > 1)) reader.Reject("rope_theta", "above 1 for yarn");
    ReadYarn(scaling, max_positions, &rope);
  } else if (type != "default") {
    Fail(ErrorKind::kUnsupported, "{}: rope type \"{}\" can't be run yet",
         scaling.source(), type);
  }
  return rope;
}

}  // namespace mobe
