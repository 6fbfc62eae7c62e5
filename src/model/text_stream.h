// The text of the tokens that an engine samples, piece by piece.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/engine.h"
#include "model/stop_strings.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace mobe {

// Pieces are well-formed UTF-8, and given as soon as it is sure that they
// belong to the text: neither an end-of-text token nor a stop string does.
class TextStream {
 public:
  // The tokenizer must outlive the stream. Special tokens are left out of the
  // text, or written as the tokenizer has them.
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stop,
             bool skip_special = true)
      : stops_(std::move(stop)), decoder_(tokenizer, skip_special) {}

  // The text that an event, which is no error, makes sure. The event may be the
  // last: then over(), and the engine need not go on.
  std::string Take(const EngineEvent& event);
  bool over() const { return finish_.has_value(); }

  // The rest, when no event follows; `reason` says why, unless the text was
  // over already.
  std::string Finish(FinishReason reason);
  // kLength for a text that has not ended.
  FinishReason reason() const {
    return finish_.value_or(FinishReason::kLength);
  }
  // The stop string that ended the text; "": none.
  const std::string& matched() const { return stops_.matched(); }

 private:
  StopStrings stops_;
  StreamDecoder decoder_;
  std::optional<FinishReason> finish_;
};

}  // namespace mobe
