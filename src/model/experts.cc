#include "model/experts.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "base/parallel.h"
#include "model/token_grain.h"

namespace mobe {
namespace {

void RunRouter(const ModelConfig& c, const LayerWeights& w, const float* x,
               int64_t tokens, MlpScratch* s) {
  s->router_logits.Resize(tokens * c.num_experts);
  const WeightView router{NumberFormat::kF32, w.router.data(), c.num_experts,
                          c.hidden_size};
  Linear(router, x, tokens, Precision::kFloat32, s->router_logits.data());
  Route(c, w.router_bias, s->router_logits.data(), tokens, &s->routing);
}

// Sorts the pairs by expert (a counting sort) and gathers their tokens' x.
void Gather(const ModelConfig& c, const float* x, int64_t tokens,
            MlpScratch* s) {
  const int64_t picks = s->routing.picks_per_token;
  const std::vector<int32_t>& experts = s->routing.experts;
  s->starts.assign(static_cast<size_t>(c.num_experts) + 1, 0);
  for (const int32_t e : experts) ++s->starts[static_cast<size_t>(e) + 1];
  std::partial_sum(s->starts.begin(), s->starts.end(), s->starts.begin());
  s->pair_of.Resize(tokens * picks);
  s->x.Resize(tokens * picks * c.hidden_size);
  int64_t* pair = s->pair_of.data();
  for (const int32_t e : experts) *pair++ = s->starts[static_cast<size_t>(e)]++;
  // Each start has moved on to the next expert's; shift them back.
  std::rotate(s->starts.begin(), s->starts.end() - 1, s->starts.end());
  s->starts.front() = 0;
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * picks; i < end * picks; ++i) {
      std::copy_n(x + i / picks * c.hidden_size, c.hidden_size,
                  s->x.data() + s->pair_of[i] * c.hidden_size);
    }
  });
}

// Calls body(expert, first pair, pairs) for the experts in [first, last) that
// have any.
template <class Body>
void ForExperts(const MlpScratch& s, size_t first, size_t last,
                const Body& body) {
  for (size_t e = first; e < last; ++e) {
    const int64_t count = s.starts[e + 1] - s.starts[e];
    if (count > 0) body(e, s.starts[e], count);
  }
}

template <class Body>
void ForEachExpert(const MlpScratch& s, const Body& body) {
  ForExperts(s, 0, s.starts.size() - 1, body);
}

// mix(bases, f, jobs) for every group, a job for each of its experts, for x and
// u with so many values for each pair.
template <class Mix>
void MixGroups(const std::vector<SharedBases>& groups, Activation f,
               const Mix& mix, const float* x, int64_t x_size, float* u,
               int64_t u_size, MlpScratch* s) {
  const size_t in_group = (s->starts.size() - 1) / groups.size();
  for (size_t g = 0; g < groups.size(); ++g) {
    const SharedBases& shared = groups[g];
    const size_t first = g * in_group;
    const auto num_bases = static_cast<size_t>(shared.bases.whole.num_bases);
    s->mix_jobs.clear();
    ForExperts(*s, first, first + in_group,
               [&](size_t e, int64_t begin, int64_t count) {
                 s->mix_jobs.push_back(
                     {shared.alpha.data() + (e - first) * num_bases,
                      x + begin * x_size, count, u + begin * u_size});
               });
    if (!s->mix_jobs.empty()) mix(shared.bases, f, s->mix_jobs);
  }
}

// The input of A: f(sum alpha B) x for the pairs of every expert, or x itself
// when the matrix is plain.
const float* MixPairs(const std::vector<SharedBases>& groups, Activation f,
                      MlpScratch* s, Buffer<float>* mixed) {
  if (groups.empty()) return s->x.data();
  const BasesView& bases = groups.front().bases.whole;
  mixed->Resize(s->starts.back() * bases.rank);
  MixGroups(groups, f, MixBatch, s->x.data(), bases.cols, mixed->data(),
            bases.rank, s);
  return mixed->data();
}

// s->down = down(s->gate) for all pairs, of a factored down: N^T (A^T h).
void RunFactoredDown(const LayerWeights& w, Precision precision,
                     MlpScratch* s) {
  const BasesView& bases = w.factored->down.front().bases.whole;
  s->down_rank.Resize(s->starts.back() * bases.rank);
  s->down.Resize(s->starts.back() * bases.cols);
  s->linear_jobs.clear();
  ForEachExpert(*s, [&](size_t e, int64_t begin, int64_t count) {
    const WeightView& a = w.experts[e].down;
    s->linear_jobs.push_back({a, s->gate.data() + begin * a.rows, count,
                              s->down_rank.data() + begin * a.cols,
                              Trans::kYes});
  });
  LinearBatch(s->linear_jobs, precision);
  MixGroups(w.factored->down, w.factored->activation, MixBatchTransposed,
            s->down_rank.data(), bases.rank, s->down.data(), bases.cols, s);
}

// s->gate = silu(gate) * up for all pairs, from the inputs of gate and up.
void RunGateAndUp(std::span<const MlpWeights> experts, Precision precision,
                  const float* gate_x, const float* up_x, MlpScratch* s) {
  const int64_t pairs = s->starts.back();
  const int64_t size = experts.front().gate.rows;
  s->gate.Resize(pairs * size);
  s->up.Resize(pairs * size);
  s->linear_jobs.clear();
  ForEachExpert(*s, [&](size_t e, int64_t begin, int64_t count) {
    const WeightView& gate = experts[e].gate;
    const WeightView& up = experts[e].up;
    s->linear_jobs.push_back({gate, gate_x + begin * gate.cols, count,
                              s->gate.data() + begin * size});
    s->linear_jobs.push_back(
        {up, up_x + begin * up.cols, count, s->up.data() + begin * size});
  });
  LinearBatch(s->linear_jobs, precision);
  ParallelRanges(pairs, kTokenGrain, [&](int64_t begin, int64_t end) {
    float* gate = s->gate.data() + begin * size;
    Kernels().swiglu(gate, s->up.data() + begin * size, (end - begin) * size,
                     gate);
  });
}

// s->down = down(s->gate) for all pairs.
void RunDown(std::span<const MlpWeights> experts, Precision precision,
             MlpScratch* s) {
  s->down.Resize(s->starts.back() * experts.front().down.rows);
  s->linear_jobs.clear();
  ForEachExpert(*s, [&](size_t e, int64_t begin, int64_t count) {
    const WeightView& down = experts[e].down;
    s->linear_jobs.push_back({down, s->gate.data() + begin * down.cols, count,
                              s->down.data() + begin * down.rows});
  });
  LinearBatch(s->linear_jobs, precision);
}

// residual[t] += sum over the picks of t, in ascending experts.
void Combine(const ModelConfig& c, int64_t tokens, const MlpScratch& s,
             float* residual) {
  const int64_t picks = s.routing.picks_per_token;
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * picks; i < end * picks; ++i) {
      const float* from = s.down.data() + s.pair_of[i] * c.hidden_size;
      float* to = residual + i / picks * c.hidden_size;
      const float weight = s.routing.weights[static_cast<size_t>(i)];
      for (int64_t j = 0; j < c.hidden_size; ++j) to[j] += weight * from[j];
    }
  });
}

// residual += what runs for every token: one expert that all tokens have.
void RunDense(const MlpWeights& w, Precision precision, const float* x,
              int64_t tokens, MlpScratch* s, float* residual) {
  s->starts = {0, tokens};
  RunGateAndUp({&w, 1}, precision, x, x, s);
  RunDown({&w, 1}, precision, s);
  for (int64_t i = 0; i < s->down.size(); ++i) residual[i] += s->down[i];
}

}  // namespace

void RunMlp(const ModelConfig& c, const LayerWeights& w, Precision precision,
            int64_t layer, const float* x, int64_t tokens,
            const MoeObserver& observe, MlpScratch* s, float* residual) {
  if (w.dense) RunDense(*w.dense, precision, x, tokens, s, residual);
  if (w.experts.empty()) return;
  RunRouter(c, w, x, tokens, s);
  if (observe) observe(layer, x, s->routing);
  Gather(c, x, tokens, s);
  const float* gate_x = s->x.data();
  const float* up_x = s->x.data();
  if (w.factored) {
    const Activation f = w.factored->activation;
    gate_x = MixPairs(w.factored->gate, f, s, &s->mixed_gate);
    up_x = MixPairs(w.factored->up, f, s, &s->mixed_up);
  }
  RunGateAndUp(w.experts, precision, gate_x, up_x, s);
  if (w.factored && !w.factored->down.empty()) {
    RunFactoredDown(w, precision, s);
  } else {
    RunDown(w.experts, precision, s);
  }
  Combine(c, tokens, *s, residual);
}

}  // namespace mobe
