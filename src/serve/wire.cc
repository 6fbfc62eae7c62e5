#include "serve/wire.h"

#include <fmt/format.h>

#include <ctime>
#include <random>

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

OpenAiAnswer::OpenAiAnswer(const char* id_prefix, std::string model)
    : id_(NewId(id_prefix)),
      created_(std::time(nullptr)),
      model_(std::move(model)) {}

Json OpenAiAnswer::With(const char* object, Json choices) const {
  return {{"id", id_},
          {"object", object},
          {"created", created_},
          {"model", model_},
          {"choices", std::move(choices)}};
}

Json OpenAiAnswer::Whole(const char* object, Json choices,
                         const TokenCounts& counts) const {
  Json json = With(object, std::move(choices));
  json["usage"] = {
      {"prompt_tokens", counts.prompt},
      {"completion_tokens", counts.sampled},
      {"total_tokens", counts.prompt + counts.sampled},
      {"prompt_tokens_details", {{"cached_tokens", counts.cached}}}};
  return json;
}

std::string OpenAiAnswer::End(const char* object,
                              const TokenCounts* counts) const {
  std::string events;
  if (counts != nullptr) {
    events = SseEvent(Whole(object, Json::array(), *counts));
  }
  return events + "data: [DONE]\n\n";
}

const char* OpenAiReason(FinishReason reason) {
  return reason == FinishReason::kStop ? "stop" : "length";
}

}  // namespace mobe
