// The special tokens that the files of a model's folder name, as transformers
// 4.57 finds them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/ordered_json.h"

namespace mobe {

// An object: {} when there is no such file. Fails with kCorruptFile when it is
// none.
Json ReadJsonObject(const std::filesystem::path& file);

// What transformers gives to templates: PreTrainedTokenizer.special_tokens_map,
// name -> text, such as bos_token. `config` is tokenizer_config.json.
OrderedJson ReadSpecialTokens(const std::filesystem::path& folder,
                              const Json& config);

// The text of eos_token, when there is one.
std::optional<std::string> ReadEosToken(const std::filesystem::path& folder,
                                        const Json& config);

}  // namespace mobe
