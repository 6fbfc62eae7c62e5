#include "serve/service.h"

#include <algorithm>
#include <ctime>

#include "base/error.h"
#include "model/generation_config.h"
#include "serve/api.h"

namespace mobe {
namespace {

// A temperature of 1 is OpenAI's.
SamplerOptions OpenAiSampler() { return {.temperature = 1}; }

// No more than the model's memory was planned for.
EngineQueueOptions Bounded(EngineQueueOptions queue, const Model& model) {
  queue.engine.step_tokens =
      std::max(std::min(queue.engine.step_tokens, model.step_tokens()),
               queue.engine.sequences);
  return queue;
}

LoadOptions WithCache(LoadOptions load, const EngineQueueOptions& queue) {
  load.cache_tokens = queue.engine.cache_tokens;
  // Those that run, and as many that others begin with.
  load.sequences = 2 * queue.engine.sequences;
  return load;
}

}  // namespace

Service::Service(const ServiceOptions& options)
    : options_(options),
      created_(std::time(nullptr)),
      tokenizer_(Tokenizer::Load(options.folder)),
      model_(
          Model::Load(options.folder, WithCache(options.load, options.queue))),
      sampler_(WithGenerationConfig(options.folder, OpenAiSampler())),
      context_(std::min(options.queue.engine.cache_tokens,
                        model_.config().max_positions)),
      engine_(model_, Bounded(options.queue, model_)) {
  try {
    chat_ = ChatTemplate::Load(options.folder, options.chat_template, false);
    chat_with_tools_ =
        ChatTemplate::Load(options.folder, options.chat_template, true);
  } catch (const Error& e) {
    // A base model's answers to plain prompts are wanted all the same.
    if (e.kind() != ErrorKind::kMissing || !options.chat_template.empty()) {
      throw;
    }
    no_chat_ = e.what();
  }
}

const ChatTemplate& Service::chat_template(bool with_tools) const {
  const auto& chosen = with_tools ? chat_with_tools_ : chat_;
  if (!chosen) throw ApiError(400, no_chat_);
  return *chosen;
}

}  // namespace mobe
