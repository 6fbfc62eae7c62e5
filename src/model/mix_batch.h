// Products with matrices that exist only as a mix of bases.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/linear.h"
#include "kernels/packed_mix.h"
#include "model/stored_bases.h"

namespace mobe {

// Runs the jobs of experts that share the bases: in float32, or, of bases in 8
// bits, as kernels/packed_mix.h says. Parallel over the rows of N: a thread
// takes the same few rows of all bases through every job, so that they come
// from memory once and from its cache for the other experts. Rows of low-rank
// bases are multiplied out once for all jobs. Bases whose alpha is zero cost
// nothing. What a token gets does not depend, to the bit, on who shares the
// call; of bases in 8 bits it does on the phase.
void MixBatch(const StoredBases& bases, Activation f, Phase phase,
              std::span<const MixJob> jobs);
// The transposed product; parallel over the columns of N.
void MixBatchTransposed(const StoredBases& bases, Activation f,
                        std::span<const MixJob> jobs);

// N [rank, cols] of one expert, by the calling thread; valid until its next
// call of this file.
const float* MixExpert(const StoredBases& bases, const float* alpha,
                       Activation f);

// Multiplies low-rank bases out: product [m, rank, cols].
void ExpandBases(const StoredBases& bases, float* product);

}  // namespace mobe
