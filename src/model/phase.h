// The two kinds of passes through the layers, and how each computes.
#pragma once

#include "kernels/linear.h"

namespace mobe {

// kPrefill: tokens of prompts. kDecode: a token that a text has just got, of
// each of some texts.
enum class Phase { kPrefill, kDecode };

// What the arithmetic of a pass depends on. It never depends on how many tokens
// share the pass or a product, so that a text gets the same logits, to the bit,
// whoever runs beside it and however its prompt was cut.
struct PassMath {
  Phase phase = Phase::kPrefill;
  // Of products with stored weights: in decode kFloat32 always, for there a
  // product is bound by reading them, and rounding would win nothing.
  Precision precision = Precision::kFloat32;
};

}  // namespace mobe
