// What the matrices of a model read when it runs on a text, for rounding them
// where it shows least (mobe/input_squares_file.h). The model runs a layer at a
// time, as in model/moments.h, with as much memory.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/progress.h"
#include "mobe/open_model.h"
#include "model/moments.h"

namespace mobe {

// Writes the file that mobe/input_squares_file.h describes, whole or not at
// all, of a plain or factored model, packed or not. Runs in float32, sums in
// double. Independent of the number of threads. Fails with kUserInput when
// there are no tokens, an id is not in the vocabulary or the context is beyond
// the model's; with kCorruptFile where a square is not finite.
void CollectInputSquares(const OpenedModel& model,
                         const CalibrationTokens& tokens,
                         const std::filesystem::path& file,
                         const ProgressFn& progress);

// Inputs of an expert of which the mean of all experts is a part, beside its
// own: so that one that the text hardly used has something to go by.
inline constexpr double kPooledInputs = 32;

// Of that file's tensors.
int64_t InputSquaresBytes(const OpenedModel& model);

}  // namespace mobe
