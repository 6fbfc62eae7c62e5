// The text that models are measured on, as token ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace mobe {

struct EvalText {
  std::string source;  // the file, for messages
  std::vector<int32_t> tokens;
  // The token that the model's tokenizer puts before a text, if it does.
  std::optional<int32_t> bos;
};

// Encodes a file with the tokenizer of a model folder; nothing is put before
// the text. Keeps the first `max_tokens` tokens. `bos` is the first of the
// tokenizer's affixes. Fails as ReadTextFile, Tokenizer::Load and
// Tokenizer::Encode do.
EvalText ReadEvalText(const std::filesystem::path& model_folder,
                      const std::filesystem::path& file, int64_t max_tokens);

// Fails with kUserInput unless two model folders have the same tokenizer.json
// or tiktoken.model, byte for byte: token ids of one would mean something else
// to the other.
void CheckSameTokenizer(const std::filesystem::path& base_folder,
                        const std::filesystem::path& other_folder);

}  // namespace mobe
