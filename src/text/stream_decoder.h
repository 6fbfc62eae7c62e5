// Text of tokens that come one by one.
#pragma once

#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace mobe {

// What Push and Finish return, put together, is Decode of all ids; each part is
// well-formed UTF-8. The bytes of an unfinished character, 3 at most, are held
// back until the next token or Finish.
class StreamDecoder {
 public:
  // `tokenizer` must outlive the decoder.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  std::string Push(int32_t id);
  // The rest; the decoder is then as new.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string held_;
};

}  // namespace mobe
