// The tokenizer of Moonshot's Kimi-K2 and Moonlight. Its folder has no
// tokenizer.json: the vocabulary is tiktoken.model, the special tokens have
// their names from tokenizer_config.json, and the rest is Python code,
// tokenization_kimi.py, whose rules are written down here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace mobe {

// The members "added_tokens" and "pre_tokenizer" that a tokenizer.json of this
// tokenizer would have. `config` is the tokenizer_config.json; the special
// tokens are the 256 from `first_special`, the size of the vocabulary. Those
// that "added_tokens_decoder" does not name are "<|reserved_token_ID|>". Fails
// with kUnsupported when the config is of another tokenizer, whose pattern
// would be another, or names ids elsewhere.
Json KimiPipeline(const Json& config, int32_t first_special,
                  const std::string& where);

// The parts that Kimi encodes one by one, which changes the ids of texts that
// are longer: 400,000 characters at most, and no more than 25,000 in a row that
// all are white space, or all are not. `text` is well-formed UTF-8.
std::vector<std::string_view> KimiChunks(std::string_view text);

}  // namespace mobe
