// The special tokens that belong around a text: BOS before it, EOS behind it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace mobe {

struct SpecialAffixes {
  std::vector<int32_t> before;
  std::vector<int32_t> behind;
  bool empty() const { return before.empty() && behind.empty(); }
};

// What the "post_processor" of a tokenizer.json puts around a single text:
// nothing (null, ByteLevel), a TemplateProcessing, or a Sequence with one.
// Fails with kUnsupported for other types, naming them.
SpecialAffixes ReadPostProcessor(const Json& json, const std::string& where);

// Corrects `affixes` by a tokenizer_config.json. Its "add_bos_token" and
// "add_eos_token" have the last word where they are true or false; for a
// Llama tokenizer, which DeepSeek's is, they are true and false when they are
// left out. So it is in transformers for Llama tokenizers, in all of its
// version 5, and in llama.cpp's conversion. `token_id` looks a token up. Fails
// with kCorruptFile when a token to add is none.
void CorrectAffixes(
    const Json& config,
    const std::function<std::optional<int32_t>(std::string_view)>& token_id,
    const std::string& where, SpecialAffixes& affixes);

}  // namespace mobe
