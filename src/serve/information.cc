// What a server tells about its model and itself, and the tokenizer's service.
#include <fmt/format.h>

#include "base/memory.h"
#include "serve/conversation.h"
#include "serve/handlers.h"

namespace mobe {
namespace {

Json ModelJson(const Service& service) {
  return {{"id", service.options().name},
          {"object", "model"},
          {"created", service.created()},
          {"owned_by", "mobe"},
          {"max_model_len", service.context()}};
}

}  // namespace

ApiReply ListModels(Service* service, const ApiRequest&) {
  return JsonReply(
      {{"object", "list"}, {"data", Json::array({ModelJson(*service)})}});
}

ApiReply DescribeModel(Service* service, const ApiRequest& request) {
  if (request.path_parameter != service->options().name) {
    throw ApiError(404, OneLine(fmt::format(
                            "no model \"{}\"; the one that is served is \"{}\"",
                            request.path_parameter, service->options().name)));
  }
  return JsonReply(ModelJson(*service));
}

ApiReply RefuseEmbeddings(Service*, const ApiRequest&) {
  throw ApiError(501,
                 "embeddings: a model that writes text gives none; serve "
                 "an embedding model for them");
}

ApiReply Tokenize(Service* service, const ApiRequest& request) {
  const Json body = ParseBody("TokenizeRequest", request.body);
  const auto& text = body["prompt"].get_ref<const std::string&>();
  std::vector<int32_t> ids;
  if (body.value("add_special_tokens", true)) {
    const SpecialAffixes& affixes = service->tokenizer().affixes();
    ids = service->tokenizer().EncodePrompt(text);
    ids.insert(ids.end(), affixes.behind.begin(), affixes.behind.end());
  } else {
    ids = service->tokenizer().Encode(text);
  }
  return JsonReply({{"tokens", ids},
                    {"count", ids.size()},
                    {"max_model_len", service->context()}});
}

ApiReply Detokenize(Service* service, const ApiRequest& request) {
  const Json body = ParseBody("DetokenizeRequest", request.body);
  const auto ids = body["tokens"].get<std::vector<int32_t>>();
  if (!ids.empty()) service->model().CheckTokens(ids);
  return JsonReply({{"prompt", service->tokenizer().Decode(ids)}});
}

ApiReply ApplyTemplate(Service* service, const ApiRequest& request) {
  const Json body = ParseBody("TemplateRequest", request.body);
  const OrderedJson ordered = ParseOrderedBody(request.body);
  ChatOptions chat;
  if (body.contains("tools")) chat.tools = ordered["tools"];
  if (body.contains("chat_template_kwargs")) {
    chat.arguments = ordered["chat_template_kwargs"];
  }
  chat.add_generation_prompt = body.value("add_generation_prompt", true);
  return JsonReply(
      {{"prompt",
        RenderConversation(*service, ordered["messages"], chat).prompt}});
}

ApiReply ShowMetrics(Service* service, const ApiRequest&) {
  const EngineStatistics s = service->engine().statistics();
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  struct Row {
    const char* name;
    const char* type;
    const char* help;
    double value;
  };
  const Row rows[] = {
      {"mobe_prompt_tokens_total", "counter", "Tokens of prompts.",
       number(s.prompt_tokens)},
      {"mobe_prompt_tokens_cached_total", "counter",
       "Of these, found in the cache.", number(s.cached_tokens)},
      {"mobe_tokens_total", "counter", "Tokens sampled.", number(s.tokens)},
      {"mobe_steps_total", "counter", "Forward passes.", number(s.steps)},
      {"mobe_step_seconds_total", "counter", "Time in them.", s.step_seconds},
      {"mobe_texts_running", "gauge", "Texts that are computed together.",
       number(s.running)},
      {"mobe_requests_waiting", "gauge",
       "Requests that none of whose texts "
       "runs.",
       number(s.waiting)},
      {"mobe_cache_pages", "gauge", "Pages of the KV cache in use.",
       number(s.pages)},
      {"mobe_prefill_tokens_total", "counter",
       "Tokens of prompts that were computed.", number(s.run.prefill.tokens)},
      {"mobe_prefill_seconds_total", "counter", "Time of them.",
       s.run.prefill.seconds},
      {"mobe_decode_tokens_total", "counter",
       "Tokens of texts that were computed.", number(s.run.decode.tokens)},
      {"mobe_decode_seconds_total", "counter", "Time of them.",
       s.run.decode.seconds},
      {"mobe_experts_found_total", "counter",
       "Uses of an expert that was built or in memory.",
       number(s.run.experts.found)},
      {"mobe_experts_missed_total", "counter",
       "Uses of one that had to be mixed or read.",
       number(s.run.experts.missed)},
      {"mobe_experts_built_total", "counter",
       "Experts that were built for the time being.",
       number(s.run.experts.built)},
      {"mobe_expert_bytes_read_total", "counter", "Read from the disk.",
       number(s.run.experts.disk_bytes)},
      {"mobe_expert_wait_seconds_total", "counter",
       "Time in which the model waited for them.", s.run.experts.disk_seconds},
      {"mobe_resident_bytes", "gauge", "Memory of the process.",
       number(ResidentBytes().all)},
  };
  std::string text = service->metrics().Text();
  for (const Row& row : rows) {
    text += MetricText(row.name, row.type, row.help, row.value);
  }
  return {.content_type = "text/plain; version=0.0.4", .body = std::move(text)};
}

}  // namespace mobe
