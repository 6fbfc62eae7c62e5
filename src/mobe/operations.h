// What it takes to run one token through the experts that it chose.
#pragma once

#include "mobe/open_model.h"

namespace mobe {

// Multiplications of the matrices, in all layers with experts together; the
// functions between them are not counted. One token at a time: with more of
// them, an expert's mix serves all that chose it.
struct Operations {
  // With every expert's matrices at hand: picks * rows * cols for each kind, as
  // in the original.
  double built = 0;
  // With factors: where a kind is factored, picks * rank * (rows + cols) for A
  // and N; picks * alphas * rank * cols to mix N, for the alphas that are not
  // zero; and rank * basis_rank * cols for each low-rank basis that any of the
  // chosen experts uses. Experts are taken as chosen alike often. Of gate and
  // up with the identity and whole bases, which are not mixed but multiplied
  // once (model/expert_math.h), num_bases * rank * cols, picks * alphas * rank,
  // and picks * rank * rows for A.
  double fused = 0;
  // The part of fused that mixes N.
  double mixes = 0;
  // The part that is the same for one of the chosen experts as for all: the
  // products with bases, of the identity, and those of low-rank bases.
  double shared = 0;
};

// Reads alpha.
Operations CountOperations(const OpenedModel& model);
// Without the weights: no alpha is zero. `mobe` is null for a plain model.
Operations CountOperations(const ModelConfig& config, const MobeFormat* mobe);

}  // namespace mobe
