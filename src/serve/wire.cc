#include "serve/wire.h"

#include <fmt/format.h>

#include <random>

#include "base/unicode.h"

namespace mobe {

std::string NewId(const char* prefix) {
  thread_local std::random_device random;
  std::string id = prefix;
  for (int i = 0; i < 3; ++i) id += fmt::format("{:08x}", random());
  return id;
}

std::string TokenName(const Tokenizer& tokenizer, int32_t token) {
  const std::string& bytes = tokenizer.TokenBytes(token);
  const int32_t ids[] = {token};
  std::string text = tokenizer.Decode(ids);
  if (text == bytes) return text;
  text = "bytes:";
  for (const char byte : bytes) {
    text += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  }
  return text;
}

std::string SseEvent(const Json& data, const char* name) {
  std::string event;
  if (name != nullptr) event = fmt::format("event: {}\n", name);
  return event + "data: " + data.dump() + "\n\n";
}

Json UsageJson(const TokenCounts& counts) {
  return {{"prompt_tokens", counts.prompt},
          {"completion_tokens", counts.sampled},
          {"total_tokens", counts.prompt + counts.sampled},
          {"prompt_tokens_details", {{"cached_tokens", counts.cached}}}};
}

const char* OpenAiReason(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : "length";
}

}  // namespace mobe
