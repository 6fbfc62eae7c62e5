// What the handlers of requests stand on: a loaded model and what belongs to
// it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "model/model.h"
#include "model/sampler.h"
#include "serve/engine_thread.h"
#include "serve/metrics.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace mobe {

struct ServiceOptions {
  std::filesystem::path folder;
  std::string name;           // of the model, in answers
  std::string chat_template;  // a file or a name; "": the model's own
  LoadOptions load;
  EngineQueueOptions queue;
  double seconds = 600;  // that a request may take
};

// Immutable but for the engine and the counters, so any thread's.
class Service {
 public:
  // Loads the model. Fails as Model::Load, Tokenizer::Load and EngineThread do;
  // a model without a chat template answers no conversations.
  explicit Service(const ServiceOptions& options);

  const ServiceOptions& options() const { return options_; }
  const Model& model() const { return model_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  // Throws ApiError (400) when the model has none.
  const ChatTemplate& chat_template(bool with_tools) const;
  bool has_chat_template() const { return chat_.has_value(); }
  // Of requests that say nothing: the model's generation_config.json, and
  // without that a temperature of 1, as in OpenAI's API.
  const SamplerOptions& sampler() const { return sampler_; }
  // Tokens that prompt and answer may have together.
  int64_t context() const { return context_; }
  int64_t created() const { return created_; }  // seconds since 1970

  EngineThread& engine() { return engine_; }
  Metrics& metrics() { return metrics_; }

 private:
  const ServiceOptions options_;
  const int64_t created_;
  const Tokenizer tokenizer_;
  std::optional<ChatTemplate> chat_, chat_with_tools_;
  std::string no_chat_;  // why
  const Model model_;
  const SamplerOptions sampler_;
  const int64_t context_;
  Metrics metrics_;
  EngineThread engine_;
};

}  // namespace mobe
