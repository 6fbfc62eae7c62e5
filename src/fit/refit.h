// A refit of factors whose bases are to be stored in few bits: bases and alpha
// move to where the rounded bases serve the experts best,
//
//   min sum_e c_e tr((A_e N_e - W_e) S_e (A_e N_e - W_e)^T),
//   N_e = f(sum_i alpha_ei Q(B_i)),
//
// Q being the rounding, c_e an expert's importance and S_e the moment of what
// it reads (weighted_solve.h), with the best A_e in each pass (pass.h). The
// gradient passes Q as if it were the identity (arXiv 1308.3432). The fit
// before it (fast.cc) goes to the same W_e, but for all that an expert might
// read alike.
//
// Adam steps the bases, each row in units of its own size: rows differ by
// orders of magnitude (whiten.h). It leaves A no longer white, which costs what
// A loses in few bits; so halfway A and bases are turned again, and Adam begins
// anew. docs/lab/fit.md has what passes and rates give.
#pragma once

#include <cstdint>
#include <functional>

#include "fit/fit.h"
#include "fit/method.h"

namespace mobe {

inline constexpr int64_t kRefitPasses = 30;

// Replaces bases [num_bases, rank, cols] by what their format stores of them.
using RoundBasesFn = std::function<void(Buffer<float>* bases)>;
// Called before each pass; may throw.
using RefitPassFn = std::function<void(int64_t pass, int64_t passes)>;

// The target has a moment, `factors` whole bases; A is not used, and is left as
// it may be: solve for it. Bases are left as they are before they are rounded.
// Where passes bring nothing factors stay as they were. Independent of the
// number of threads.
void Refit(const FitTarget& target, int64_t passes, const RoundBasesFn& round,
           const RefitPassFn& on_pass, Factors* factors);

// The most memory of it, with the target that it is given; 0 for what is not
// refitted: without a text, or of low-rank bases.
int64_t RefitBytes(const FitShape& shape);

}  // namespace mobe
