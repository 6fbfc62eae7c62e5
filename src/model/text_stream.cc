#include "model/text_stream.h"

namespace mobe {

std::string TextStream::Take(const EngineEvent& event) {
  std::string text;
  if (event.finish != FinishReason::kStop && event.token >= 0) {
    text = stops_.Push(decoder_.Push(event.token));
  }
  finish_ = stops_.stopped() ? FinishReason::kStop : event.finish;
  return text;
}

std::string TextStream::Finish(FinishReason reason) {
  // The last bytes may complete a stop string; if not, what was held is text.
  std::string text = stops_.Push(decoder_.Finish());
  if (stops_.stopped()) finish_ = FinishReason::kStop;
  if (!finish_) finish_ = reason;
  return text + stops_.Finish();
}

}  // namespace mobe
