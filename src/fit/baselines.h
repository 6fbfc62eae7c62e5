// Other ways to approximate the experts of one layer and kind at a given size,
// to compare MoBE with. Each is a row of a table; none has a stored format
// here.
//
// svd    W_e ~ U_e V_e, the truncated SVD of each expert's matrix. Calibrated:
//        truncated in the norm of the expert's input, as SVD-LLM does (arXiv
//        2403.07378).
// molae  MoLAE (arXiv 2503.23100): W_e ~ A_e B_g, the latent projection B_g
//        shared by a group of experts, from the SVD of their stacked matrices.
//        Followed: the stacked SVD that is its best factorisation. Left out:
//        the rank reduction of each expert before it, a loss that the stacked
//        SVD makes needless, its treatment of down, and its training. Groups
//        are of neighbours and as many as MoBE has bases, so that the two
//        differ only in what an expert may take from its bases.
// d2moe  D2-MoE (arXiv 2502.17298): W_e ~ W_base + U_e V_e, the base a mean of
//        the experts and the delta a truncated SVD. Calibrated: the mean is
//        weighted by importance, which stands for the paper's Fisher
//        information (that needs gradients), and the delta is truncated in the
//        norm of the expert's input, as the paper's truncation-aware SVD. Left
//        out: the pruning of the base, so it is stored whole.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "fit/fit.h"

namespace mobe {

// What decides sizes: the matrices of one layer and kind, and MoBE's bases.
struct BaselineShape {
  int64_t experts = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t num_bases = 0;
};

struct Baseline {
  const char* name;
  bool calibrates;  // makes use of target.moment and importance
  // Numbers stored for the layer and kind: fixed + each * rank.
  int64_t (*fixed)(const BaselineShape&);
  int64_t (*each)(const BaselineShape&);
  // The largest rank; there the approximation is exact, but for molae's groups
  // whose stacked matrices have more columns than rows.
  int64_t (*max_rank)(const BaselineShape&);
  // The approximations of all experts, [experts, rows, cols], from factors
  // rounded to `stored`.
  Buffer<float> (*fit)(const FitTarget& target, int64_t num_bases, int64_t rank,
                       DType stored);

  int64_t Parameters(const BaselineShape& shape, int64_t rank) const {
    return fixed(shape) + each(shape) * rank;
  }
};
std::span<const Baseline> Baselines();
// Null when there is none of that name.
const Baseline* FindBaseline(std::string_view name);

// The largest rank that stores at most `budget` numbers. Fails with kUserInput
// when rank 1 does not.
int64_t RankForBudget(const Baseline& baseline, const BaselineShape& shape,
                      int64_t budget);

}  // namespace mobe
