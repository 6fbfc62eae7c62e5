// Checking a compressed or reconstructed model against its original.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "compress/compress.h"
#include "compress/packed_parts.h"

namespace mobe {

struct VerifyReport {
  // One line each, naming file and tensor. Empty: the model is sound.
  std::vector<std::string> faults;
  // Errors of the matrices that differ from the original by design.
  std::vector<MatrixReport> matrices;
  int64_t tensors_equal = 0;  // byte for byte, or as FP8 in bfloat16
  // Packed matrices beside those of `matrices`, against the original's.
  std::vector<PackedPart> packed;
  // Files whose checksums recipe.json lists, all compared; nothing without it.
  std::optional<int64_t> files_checked;
};

// Every tensor there, of the right shape, dtype and finite; untouched tensors
// equal to the original's bytes, or its FP8 values rounded to bfloat16 where
// config.json says that nothing is FP8; packed ones nearer to it than zero is,
// as every expert of a factored (or rebuilt) matrix: relative error below 1, or
// below 1.5 with a likeness above 0.3; all bytes as recipe.json says, where
// there is one; side files as CompareSideFiles wants them. Warns of tensors of
// the original that look as if they had not been downloaded (mobe/zeros.h).
// What can't be opened at all throws as OpenModel does.
VerifyReport Verify(const std::filesystem::path& folder,
                    const OpenedModel& original, const ProgressFn& progress);

// Without the original: all files as recipe.json says, no more. Fails with
// kUserInput when there is none.
VerifyReport VerifyFiles(const std::filesystem::path& folder);

}  // namespace mobe
