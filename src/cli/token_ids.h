// Token ids from a file, for commands that run a model on given ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace mobe {

struct TokenIds {
  // False when the file holds one sequence and no dimension for a batch.
  bool batched = false;
  std::vector<std::vector<int32_t>> sequences;  // none of them empty
};

// Reads, by the file's name or first character:
//   *.safetensors   an integer tensor [s] or [b, s], named input_ids or alone
//   [...            JSON, a list of integers or a list of such lists
//   otherwise       integers separated by blanks or commas, a sequence a line
// Fails with kCorruptFile when it is none of these, holds no id, or one that
// does not fit in 31 bits.
TokenIds ReadTokenIds(const std::filesystem::path& path);

}  // namespace mobe
