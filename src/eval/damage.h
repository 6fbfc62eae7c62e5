// What replacing one kind of matrix in one layer does to a model's predictions,
// for many of them in one run.
#pragma once

#include <cstdint>
#include <vector>

#include "base/progress.h"
#include "mobe/layer_kind.h"
#include "model/moments.h"

namespace mobe {

// Tokens that are enough for choosing shapes or formats: the damage is a mean
// over them, and each layer and kind runs them anew. Their sampling error, a
// tenth or less, changes no shape by more than a step.
inline constexpr int64_t kDamageTokens = 512;

// KL(model || model with that one matrix kind replaced), in nats, mean over the
// tokens; a value for each of `matrices`, which are sorted by layer. `replace`
// is asked for each once, in that order.
//
// The model runs once, a layer at a time. Where a kind is replaced, a copy of
// the tokens' hidden states begins that takes the new matrices through this
// layer, and the model's own through the rest. So weights are read once, and
// memory is 4 tokens * hidden bytes for each copy, beside one layer and one
// replaced kind in bfloat16. Independent of the number of threads. Fails as
// CollectMoments does.
std::vector<double> MeasureDamage(const OpenedModel& model,
                                  const CalibrationTokens& tokens,
                                  const std::vector<LayerKind>& matrices,
                                  const ReplaceFn& replace,
                                  const ProgressFn& progress);

}  // namespace mobe
