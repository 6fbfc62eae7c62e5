// Calibration: what the experts of each layer read when a plain or factored
// model runs on a text. The model runs out of core, a layer at a time: all
// tokens pass through a layer before the next is touched, and its pages are let
// go then. So each weight is read once, and memory is
//
//   4 tokens * hidden bytes for the hidden states (65,536 tokens of
//   DeepSeek-V3: 1.9 GB, less than a tenth of a layer's experts), and beside
//   them one layer, the moments of one layer, and scratch of a thousand tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "base/progress.h"
#include "mobe/open_model.h"

namespace mobe {

// Token ids, cut into windows of `context` that are run without what is before
// them; the last may be shorter.
struct CalibrationTokens {
  std::span<const int32_t> ids;
  int64_t context = 512;

  // Of both; two of the same hash give the same moments.
  std::string Hash() const;
  // Of a safetensors file of what the tokens gave.
  std::map<std::string, std::string> Metadata() const;
};

enum class CalibrationScope {
  kExperts,  // what experts read: for a fit
  kAll,      // and what all other matrices do: for rounding (input_moments.h)
};

// Writes the file that mobe/moments_file.h describes, whole or not at all. Runs
// in float32; sums of 1024 tokens are in float32, those beyond in double.
// Independent of the number of threads. Fails with kUserInput when there are no
// tokens, an id is not in the vocabulary, the context is beyond the model's or
// no layer has experts; with kCorruptFile where a moment is not finite.
void CollectMoments(const OpenedModel& model, const CalibrationTokens& tokens,
                    CalibrationScope scope, const std::filesystem::path& file,
                    const ProgressFn& progress);

// Seconds that it will take, measured on one layer with experts and a few
// windows; none is an input of the next layer, so that routing is not as it
// will be. 0 when no layer has experts.
double ProbeMoments(const OpenedModel& model, const CalibrationTokens& tokens,
                    CalibrationScope scope);

// Of that file's tensors.
int64_t MomentsBytes(const OpenedModel& model, int64_t tokens,
                     CalibrationScope scope);

}  // namespace mobe
