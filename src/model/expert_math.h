// What the experts of a layer compute, down(silu(gate x) * (up x)), from their
// matrices. Who runs them (expert_executor.h) says where those are.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/linear.h"
#include "model/router.h"
#include "model/weights.h"

namespace mobe {

// Memory between the steps, reused from call to call. A pair is a token and one
// of its experts; pairs are sorted by expert, then by token.
struct MlpScratch {
  Buffer<float> router_logits;  // [tokens, experts]
  Routing routing;
  std::vector<int64_t> starts;  // [experts + 1]: an expert's first pair
  Buffer<int64_t> pair_of;      // [tokens, picks]
  Buffer<float> x;              // [pairs, hidden]
  Buffer<float> mixed_gate;     // [pairs, rank]: N x of a factored layer
  Buffer<float> mixed_up;
  Buffer<float> token_x;  // [tokens, hidden]
  Buffer<float> bases_x;  // [some tokens, num_bases * rank]: B_i x of all i
  // [pairs, expert_size]; after RunMlp `gate` holds the input of down.
  Buffer<float> gate, up;
  Buffer<float> down_rank;     // [pairs, rank]: A^T h of a factored down
  Buffer<float> down;          // [pairs, hidden]
  Buffer<float> shared_scale;  // [tokens]
  std::vector<LinearJob> linear_jobs;
  std::vector<MixJob> mix_jobs;

  int64_t pairs() const { return starts.back(); }
};

// An expert that has pairs.
struct ActiveExpert {
  int64_t index = 0;  // in the layer
  MlpWeights weights;
  int64_t begin = 0;  // its pairs
  int64_t count = 0;
};

// Bytes of MlpScratch::bases_x at most.
int64_t BasesProductBytes(const FactoredWeights& factored,
                          const SharedBases& shared);

// Writes the rows of s->down that are the pairs of `experts`, whose inputs are
// rows of x [pairs, hidden]. Experts are in ascending order, and in any number
// of calls: what one computes does not depend on the others.
void RunPlainExperts(std::span<const ActiveExpert> experts, const float* x,
                     const Arithmetic& math, MlpScratch* s);
// The same of experts whose matrices are A where `factored` has bases of them,
// of what MixInputs made of x.
void RunFactoredExperts(const FactoredWeights& factored, int64_t num_experts,
                        std::span<const ActiveExpert> experts, const float* x,
                        const Arithmetic& math, MlpScratch* s);
// The inputs of A, f(sum alpha B) x, into s->mixed_gate and s->mixed_up. Needs
// no weights of the experts themselves, so those may still be on their way.
//
// Where f is the identity, that is sum alpha_i (B_i x): in decode each token is
// then multiplied by all bases once, for all of its experts, in m r d
// multiplications, where the mixes would take as many for each expert. So it is
// in prefill where a token has half as many experts as there are bases, or
// more: then it takes no more than twice the multiplications that the mixed
// matrices would, and the mixes are saved.
void MixInputs(const FactoredWeights& factored, int64_t num_experts,
               std::span<const ActiveExpert> experts, const float* x,
               const Arithmetic& math, MlpScratch* s);

}  // namespace mobe
