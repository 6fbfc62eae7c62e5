#include "text/stream_decoder.h"

#include <utility>

#include "base/unicode.h"

namespace mobe {

std::string StreamDecoder::Push(int32_t id) {
  if (skip_special_ && tokenizer_->IsSpecial(id)) return {};
  held_ += tokenizer_->TokenBytes(id);
  const size_t length = CompleteUtf8Length(held_);
  std::string text = ReplaceInvalidUtf8({held_.data(), length});
  held_.erase(0, length);
  return text;
}

std::string StreamDecoder::Finish() {
  return ReplaceInvalidUtf8(std::exchange(held_, {}));
}

}  // namespace mobe
