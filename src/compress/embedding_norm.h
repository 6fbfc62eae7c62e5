// What weighs the errors of an embedding's rows, known without a text: what the
// first layer's attention makes of them. It is the first to read a row, which
// it does behind a norm, by matrices W that are at hand,
//
//   G = sum over W of (W diag(norm))^T W diag(norm),
//
// and there an error does most harm: it reaches all layers' routers, and a
// token that goes to another expert changes at once.
#pragma once

#include "base/matrix.h"
#include "fit/error_feedback.h"
#include "mobe/open_model.h"

namespace mobe {

// `head` is the moment of what the head reads, of mean diagonal 1, for an
// embedding that is the head, too; empty: unknown. Empty where there is nothing
// to weigh by, or the model is too wide for a matrix of its width.
RoundingNorm EmbeddingNorm(const OpenedModel& model, Buffer<float> head);

}  // namespace mobe
