#include "serve/sampling.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <random>

#include "base/error.h"
#include "model/generate.h"
#include "serve/api.h"

namespace mobe {
namespace {

// No two requests have the same, whatever the clock says.
uint64_t RandomSeed() {
  thread_local std::mt19937_64 random{(uint64_t{std::random_device{}()} << 32) |
                                      std::random_device{}()};
  return random();
}

int32_t TokenKey(const std::string& key) {
  int32_t token = -1;
  const auto [end, error] =
      std::from_chars(key.data(), key.data() + key.size(), token);
  if (error != std::errc() || end != key.data() + key.size() || token < 0) {
    throw ApiError(400, OneLine("logit_bias: \"" + key + "\" is no token id"));
  }
  return token;
}

std::vector<std::string> ReadStops(const Json& body) {
  for (const char* name : {"stop", "stop_sequences"}) {
    const auto found = body.find(name);
    if (found == body.end()) continue;
    if (found->is_string()) return {found->get<std::string>()};
    return found->get<std::vector<std::string>>();
  }
  return {};
}

}  // namespace

TextPlan ReadSampling(const Service& service, const Json& body) {
  TextPlan plan;
  SamplerOptions& sampler = plan.request.sampler;
  sampler = service.sampler();
  const auto read = [&](const char* name, auto* value) {
    *value = body.value(name, *value);
  };
  read("temperature", &sampler.temperature);
  read("top_k", &sampler.top_k);
  sampler.top_k = std::max<int64_t>(sampler.top_k, 0);
  read("top_p", &sampler.top_p);
  read("min_p", &sampler.min_p);
  read("repetition_penalty", &sampler.repetition_penalty);
  read("presence_penalty", &sampler.presence_penalty);
  read("frequency_penalty", &sampler.frequency_penalty);
  const auto seed = body.find("seed");
  sampler.seed = seed == body.end() ? RandomSeed()
                 : seed->is_number_unsigned()
                     ? seed->get<uint64_t>()
                     : static_cast<uint64_t>(seed->get<int64_t>());
  const Json biases = body.value("logit_bias", Json::object());
  for (const auto& [key, bias] : biases.items()) {
    sampler.logit_bias.push_back({TokenKey(key), bias.get<double>()});
  }
  plan.stop = ReadStops(body);
  std::vector<int32_t>& ids = plan.request.stop_ids;
  read("stop_token_ids", &ids);
  if (!body.value("ignore_eos", false)) {
    std::ranges::copy(StopIdsOf(service.model(), service.tokenizer()),
                      std::back_inserter(ids));
  }
  return plan;
}

TextPlan WithSeed(TextPlan plan, int64_t number) {
  plan.request.sampler.seed += static_cast<uint64_t>(number);
  return plan;
}

}  // namespace mobe
