// How a request wants its tokens to be chosen.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "serve/service.h"

namespace mobe {

// One text of an answer: what the engine gets, and where the text ends.
struct TextPlan {
  EngineRequest request;
  std::vector<std::string> stop;
  bool skip_special = true;
};

// A body that ParseBody has passed, OpenAI's or Anthropic's, as a plan without
// a prompt; a member that it has not is the service's default. Without a seed,
// a random one. Throws ApiError (400).
TextPlan ReadSampling(const Service& service, const Json& body);

// The plan of `number` of several texts of one prompt: with the next seed.
TextPlan WithSeed(TextPlan plan, int64_t number);

}  // namespace mobe
