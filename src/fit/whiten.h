// Which of the equal factors to store, where f is the identity: A_e T^-1 and
// T B_i stand for the same matrices whatever the invertible T [rank, rank].
//
// Rounding A to few bits loses, with feedback (error_feedback.h), the mean
// square of A's columns times the mean of the pivots of N S N^T: all that makes
// columns unequal or alike is paid for. So T makes the columns of A white,
//
//   sum_e A_e^T A_e = c I,
//
// which leaves the unequal part to bases, few and shared; and, as that leaves T
// an orthogonal factor, it makes
//
//   sum_e c_e N_e S_e N_e^T,   N_e = sum_i alpha_ei B_i,
//
// diagonal, falling: S_e is the moment of what the expert reads, c_e its
// importance; without a text the identity and 1. Then rows of bases are large
// or small as a whole, and what few bits lose of them and of A lies in the
// small ones. On the bundled model, KL divergence of 4 bases in 3 bits, A and
// down in 4: 0.0017 with the first alone, 0.0014 with both; docs/lab/fit.md has
// the others.
#pragma once

#include "fit/fit.h"

namespace mobe {

// Turns A and the bases, or their left factors, so; the bases' mean square
// stays. Directions that A hardly uses stay as they are. A no longer fits
// exactly once the bases are rounded: solve for it again. Does nothing for
// another activation than the identity.
void WhitenA(const FitTarget& target, Factors* factors);

}  // namespace mobe
