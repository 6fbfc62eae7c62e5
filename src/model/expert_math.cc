#include "model/expert_math.h"

#include <algorithm>

#include "base/parallel.h"
#include "model/token_grain.h"

namespace mobe {
namespace {

using ActiveExperts = std::span<const ActiveExpert>;

// Tokens whose products with all bases are held at once.
constexpr int64_t kProductTokens = 64;

// mix(bases, f, jobs) for every group, a job for each of its experts, for x and
// u with so many values for each pair.
template <class Mix>
void MixGroups(const std::vector<SharedBases>& groups, Activation f,
               int64_t num_experts, ActiveExperts experts, const Mix& mix,
               const float* x, int64_t x_size, float* u, int64_t u_size,
               MlpScratch* s) {
  const int64_t in_group = num_experts / std::ssize(groups);
  size_t next = 0;
  for (int64_t g = 0; g < std::ssize(groups); ++g) {
    const SharedBases& shared = groups[static_cast<size_t>(g)];
    const int64_t first = g * in_group;
    const int64_t num_bases = shared.bases.num_bases;
    s->mix_jobs.clear();
    for (; next < experts.size() && experts[next].index < first + in_group;
         ++next) {
      const ActiveExpert& e = experts[next];
      s->mix_jobs.push_back(
          {shared.alpha.data() + (e.index - first) * num_bases,
           x + e.begin * x_size, e.count, u + e.begin * u_size});
    }
    if (!s->mix_jobs.empty()) mix(shared.bases, f, s->mix_jobs);
  }
}

// s->gate = silu(gate) * up, from the inputs of gate and up.
void RunGateAndUp(ActiveExperts experts, const Arithmetic& math,
                  const float* gate_x, const float* up_x, MlpScratch* s) {
  const int64_t size = experts.front().weights.gate.rows;
  s->gate.Resize(s->pairs() * size);
  s->up.Resize(s->pairs() * size);
  s->linear_jobs.clear();
  for (const ActiveExpert& e : experts) {
    const auto& [gate, up, down] = e.weights;
    s->linear_jobs.push_back({gate, gate_x + e.begin * gate.cols, e.count,
                              s->gate.data() + e.begin * size});
    s->linear_jobs.push_back(
        {up, up_x + e.begin * up.cols, e.count, s->up.data() + e.begin * size});
  }
  LinearBatch(s->linear_jobs, math);
  // Pairs of these experts that lie side by side.
  for (size_t i = 0, last = 0; i < experts.size(); i = last) {
    int64_t end = experts[i].begin;
    for (; last < experts.size() && experts[last].begin == end; ++last) {
      end += experts[last].count;
    }
    const int64_t first = experts[i].begin;
    ParallelRanges(end - first, kTokenGrain, [&](int64_t from, int64_t to) {
      float* gate = s->gate.data() + (first + from) * size;
      Kernels().swiglu(gate, s->up.data() + (first + from) * size,
                       (to - from) * size, gate);
    });
  }
}

// s->down = down(s->gate).
void RunDown(ActiveExperts experts, const Arithmetic& math, MlpScratch* s) {
  s->down.Resize(s->pairs() * experts.front().weights.down.rows);
  s->linear_jobs.clear();
  for (const ActiveExpert& e : experts) {
    const WeightView& down = e.weights.down;
    s->linear_jobs.push_back({down, s->gate.data() + e.begin * down.cols,
                              e.count, s->down.data() + e.begin * down.rows});
  }
  LinearBatch(s->linear_jobs, math);
}

// The same of a factored down: N^T (A^T h).
void RunFactoredDown(const FactoredWeights& factored, int64_t num_experts,
                     ActiveExperts experts, const Arithmetic& math,
                     MlpScratch* s) {
  const StoredBases& bases = factored.down.front().bases;
  s->down_rank.Resize(s->pairs() * bases.rank);
  s->down.Resize(s->pairs() * bases.cols);
  s->linear_jobs.clear();
  for (const ActiveExpert& e : experts) {
    const WeightView& a = e.weights.down;
    s->linear_jobs.push_back({a, s->gate.data() + e.begin * a.rows, e.count,
                              s->down_rank.data() + e.begin * a.cols,
                              Trans::kYes});
  }
  LinearBatch(s->linear_jobs, math);
  MixGroups(factored.down, factored.activation, num_experts, experts,
            MixBatchTransposed, s->down_rank.data(), bases.rank, s->down.data(),
            bases.cols, s);
}

// u [pairs, rank] = sum alpha_i (B_i x) for the pairs of a group's experts,
// from s->token_x.
void MixProducts(const SharedBases& shared, int64_t first_expert,
                 ActiveExperts experts, std::span<const int64_t> token_of,
                 const Arithmetic& math, float* u, MlpScratch* s) {
  const int64_t m = shared.bases.num_bases;
  const int64_t rank = shared.bases.rank;
  const int64_t cols = shared.bases.cols;
  const int64_t tokens = s->token_x.size() / cols;
  // An expert's pairs ascend by token: those of its next tokens begin here.
  std::vector<int64_t> next;
  for (const ActiveExpert& e : experts) next.push_back(e.begin);
  for (int64_t first = 0; first < tokens; first += kProductTokens) {
    const int64_t count = std::min(kProductTokens, tokens - first);
    s->bases_x.Resize(count * m * rank);
    Linear(shared.bases.rows, s->token_x.data() + first * cols, count, math,
           s->bases_x.data());
    ParallelFor(std::ssize(experts), [&](int64_t i) {
      const ActiveExpert& e = experts[static_cast<size_t>(i)];
      const float* alpha = shared.alpha.data() + (e.index - first_expert) * m;
      int64_t& pair = next[static_cast<size_t>(i)];
      for (; pair < e.begin + e.count; ++pair) {
        const int64_t token = token_of[static_cast<size_t>(pair)] - first;
        if (token >= count) break;
        const float* products = s->bases_x.data() + token * m * rank;
        float* const to = u + pair * rank;
        std::fill_n(to, rank, 0.0f);
        for (int64_t b = 0; b < m; ++b) {
          if (alpha[b] == 0) continue;
          Kernels().subtract(to, -alpha[b], products + b * rank, rank, to);
        }
      }
    });
  }
}

// Gathers each token's x, which lies with each of its pairs. Returns the token
// of each pair.
std::vector<int64_t> GatherTokens(const float* x, int64_t cols, MlpScratch* s) {
  const int64_t picks = s->routing.picks_per_token;
  const int64_t tokens = s->pair_of.size() / picks;
  s->token_x.Resize(tokens * cols);
  std::vector<int64_t> token_of(static_cast<size_t>(s->pair_of.size()));
  for (int64_t i = 0; i < s->pair_of.size(); ++i) {
    token_of[static_cast<size_t>(s->pair_of[i])] = i / picks;
  }
  for (int64_t t = 0; t < tokens; ++t) {
    std::copy_n(x + s->pair_of[t * picks] * cols, cols,
                s->token_x.data() + t * cols);
  }
  return token_of;
}

// Whether bases are better multiplied than mixed.
bool MultipliesBases(const FactoredWeights& factored, Phase phase,
                     int64_t picks) {
  const auto suit = [&](const std::vector<SharedBases>& groups) {
    return std::ranges::all_of(groups, [&](const SharedBases& shared) {
      return shared.bases.rows.codes != nullptr &&
             (phase == Phase::kDecode || shared.bases.num_bases <= 2 * picks);
    });
  };
  return factored.activation == Activation::kIdentity &&
         !(factored.gate.empty() && factored.up.empty()) &&
         suit(factored.gate) && suit(factored.up);
}

}  // namespace

int64_t BasesProductBytes(const FactoredWeights& factored,
                          const SharedBases& shared) {
  if (factored.activation != Activation::kIdentity) return 0;
  return kProductTokens * shared.bases.num_bases * shared.bases.rank *
         static_cast<int64_t>(sizeof(float));
}

void RunPlainExperts(ActiveExperts experts, const float* x,
                     const Arithmetic& math, MlpScratch* s) {
  if (experts.empty()) return;
  RunGateAndUp(experts, math, x, x, s);
  RunDown(experts, math, s);
}

void MixInputs(const FactoredWeights& factored, int64_t num_experts,
               ActiveExperts experts, const float* x, const Arithmetic& math,
               MlpScratch* s) {
  const bool multiplies =
      MultipliesBases(factored, math.phase, s->routing.picks_per_token);
  std::vector<int64_t> token_of;
  if (multiplies) {
    const auto& some = factored.gate.empty() ? factored.up : factored.gate;
    token_of = GatherTokens(x, some.front().bases.cols, s);
  }
  const auto mix = [&](const std::vector<SharedBases>& groups,
                       Buffer<float>* mixed) {
    if (groups.empty()) return;
    const StoredBases& bases = groups.front().bases;
    mixed->Resize(s->pairs() * bases.rank);
    if (multiplies) {
      const int64_t in_group = num_experts / std::ssize(groups);
      auto next = experts.begin();
      for (int64_t g = 0; g < std::ssize(groups); ++g) {
        const auto end = std::find_if(next, experts.end(), [&](const auto& e) {
          return e.index >= (g + 1) * in_group;
        });
        MixProducts(groups[static_cast<size_t>(g)], g * in_group, {next, end},
                    token_of, math, mixed->data(), s);
        next = end;
      }
      return;
    }
    const auto mix_batch = [&](const StoredBases& of, Activation f,
                               std::span<const MixJob> jobs) {
      MixBatch(of, f, math.phase, jobs);
    };
    MixGroups(groups, factored.activation, num_experts, experts, mix_batch, x,
              bases.cols, mixed->data(), bases.rank, s);
  };
  mix(factored.gate, &s->mixed_gate);
  mix(factored.up, &s->mixed_up);
}

void RunFactoredExperts(const FactoredWeights& factored, int64_t num_experts,
                        ActiveExperts experts, const float* x,
                        const Arithmetic& math, MlpScratch* s) {
  if (experts.empty()) return;
  RunGateAndUp(experts, math, factored.gate.empty() ? x : s->mixed_gate.data(),
               factored.up.empty() ? x : s->mixed_up.data(), s);
  if (factored.down.empty()) {
    RunDown(experts, math, s);
  } else {
    RunFactoredDown(factored, num_experts, experts, math, s);
  }
}

}  // namespace mobe
