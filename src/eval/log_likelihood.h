// How likely a model finds texts to go on in given ways.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/stop.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace mobe {

// A text and what may follow, as token ids.
struct Continuation {
  std::vector<int32_t> context;
  std::vector<int32_t> tokens = {};
};

// As lm-eval's TemplateLM has it: white space at the end of the context belongs
// to what follows; the context is encoded alone, with BOS where the tokenizer
// adds one; what follows are the tokens of both together beyond as many. An
// empty context is BOS, or else the token that ends a text.
Continuation EncodeContinuation(const Tokenizer& tokenizer,
                                const std::string& context,
                                const std::string& text);

// Of each the sum of log p of its tokens, in nats. Contexts that follow each
// other and are equal are computed once. Of what exceeds the model's context
// the beginning is left out, as lm-eval does it. Fails with kUserInput where
// the tokens alone do, with kCorruptFile when logits aren't finite, and as
// Model::Forward does.
std::vector<double> LogLikelihoods(const Model& model,
                                   std::span<const Continuation> continuations);

}  // namespace mobe
