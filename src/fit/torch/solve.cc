#include "fit/torch/solve.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "fit/diagonal.h"
#include "fit/output_solve.h"
#include "fit/weighted_solve.h"

namespace mobe::torch {
namespace {

// [tokens, cols], of bfloat16, in memory of the process.
Tensor ViewInputs(const RoutedInputs& inputs, int64_t cols) {
  return at::from_blob(const_cast<BFloat16*>(inputs.x.data()),
                       {inputs.x.size() / cols, cols}, at::kBFloat16);
}

// The moment that weighs an expert's error: weighted_solve.h.
class Moments {
 public:
  Moments(const Machine& machine, const FitTarget& target)
      : inputs_(target.inputs), cols_(target.cols) {
    layer_ = machine.On(View(target.moment.data(), {cols_, cols_}));
    if (inputs_.empty()) return;
    x_ = ViewInputs(inputs_, cols_).to(machine.device);
  }

  Tensor Of(int64_t expert) const {
    Tensor moment = layer_.clone();
    const std::optional<Tensor> own = Own(expert);
    if (own) {
      const auto e = static_cast<size_t>(expert);
      moment.lerp_(*own, 1 - SharedPart(cols_, inputs_.starts[e + 1] -
                                                   inputs_.starts[e]));
    }
    moment.diagonal().add_(kMomentFloor);
    return moment;
  }

 private:
  // Of the tokens that chose it, of mean diagonal 1.
  std::optional<Tensor> Own(int64_t expert) const {
    constexpr int64_t kPairs = 8192;  // at a time
    if (inputs_.empty()) return {};
    const auto e = static_cast<size_t>(expert);
    Tensor own = at::zeros({cols_, cols_}, x_.options().dtype(at::kFloat));
    for (int64_t begin = inputs_.starts[e]; begin < inputs_.starts[e + 1];
         begin += kPairs) {
      const int64_t count = std::min(kPairs, inputs_.starts[e + 1] - begin);
      const Tensor tokens =
          at::from_blob(const_cast<int32_t*>(inputs_.tokens.data() + begin),
                        {count}, at::kInt)
              .to(x_.device());
      const Tensor weights =
          View(inputs_.weights.data() + begin, {count, 1}).to(x_.device());
      const Tensor rows =
          x_.index_select(0, tokens).to(at::kFloat).mul_(weights);
      own.addmm_(rows.t(), rows);
    }
    const Tensor mean = own.diagonal().mean();
    if (!(mean.item<float>() > 0)) return {};  // no token chose it
    return own.div_(mean);
  }

  const RoutedInputs& inputs_;
  const int64_t cols_;
  Tensor layer_;
  Tensor x_;
};

// Inputs of so many tokens [tokens, cols].
Tensor InputsOf(const Machine& machine, const RoutedInputs& inputs,
                const int32_t* tokens, int64_t count, int64_t cols) {
  const Tensor places =
      at::from_blob(const_cast<int32_t*>(tokens), {count}, at::kInt);
  return machine.On(ViewInputs(inputs, cols).index_select(0, places));
}

// L with L L^T = G, where what is added to its diagonal for that is a share of
// each number there; nothing where that does not help.
std::optional<Tensor> FactorOwnRidge(const Tensor& gram) {
  constexpr int kTries = 5;
  double share = kRidge;
  for (int i = 0; i < kTries; ++i, share *= 10) {
    Tensor damped = gram.clone();
    damped.diagonal().add_((gram.diagonal() * share).clamp_min(kLeastRidge));
    const auto [factor, info] = at::linalg_cholesky_ex(damped);
    if (!info.any().item<bool>()) return factor;
  }
  return {};
}

double Dot(const Tensor& a, const Tensor& b) {
  return at::dot(a.flatten(), b.flatten()).item<double>();
}

}  // namespace

void SolveA(const Machine& machine, const FitTarget& target, Factors* factors) {
  const int64_t rank = factors->rank;
  const int64_t m = factors->num_bases;
  const int64_t size = target.rows * rank;
  const Tensor flat =
      machine.On(View(factors->bases.data(), {m, rank * target.cols}));
  const Tensor alpha =
      machine.On(View(factors->alpha.data(), {target.experts, m}));
  std::optional<Moments> moments;
  if (target.moment.size() > 0) moments.emplace(machine, target);
  factors->a.Resize(target.experts * size);
  for (int64_t e = 0; e < target.experts; ++e) {
    const Tensor mix =
        Activate(factors->activation,
                 at::mm(alpha.narrow(0, e, 1), flat).view({rank, target.cols}));
    const Tensor w =
        machine.On(View(target.matrix(e), {target.rows, target.cols}));
    const Tensor weighed = moments ? at::mm(mix, moments->Of(e)) : mix;
    // In double where a moment spans more orders of magnitude than float32 has.
    const auto dtype = moments ? at::kDouble : at::kFloat;
    const Tensor gram = at::mm(weighed, mix.t()).to(dtype);
    const Tensor cross = at::mm(weighed, w.t()).to(dtype);
    // A moment makes rows of the mix differ by orders of magnitude: each is
    // brought to 1, so that the ridge is a share of its own.
    const Tensor sizes =
        moments ? gram.diagonal().clamp_min(kLeastRidge).sqrt().unsqueeze(1)
                : at::ones({1, 1}, gram.options());
    const Tensor l = FactorGram(gram / sizes / sizes.t());
    View(factors->a.data() + e * size, {target.rows, rank})
        .copy_((at::cholesky_solve(cross / sizes, l) / sizes).t());
  }
}

void SolveForOutputs(const Machine& machine, const ExpertOutputs& outputs,
                     const RoutedInputs& inputs, const Buffer<float>& mix,
                     const Buffer<float>& gram, int64_t rows, int64_t rank,
                     int64_t cols, float* a_values) {
  const auto tokens = static_cast<int64_t>(outputs.tokens.size());
  if (tokens == 0) return;
  const auto l = FactorOwnRidge(machine.On(View(gram.data(), {rank, rank})));
  if (!l) return;
  // z = N x, errors = W x - A z; then L^-1 z, in which A - A_0 = Q L^-1.
  const Tensor n = machine.On(View(mix.data(), {rank, cols}));
  Tensor z = at::empty({rank, tokens}, n.options());
  for (int64_t begin = 0; begin < tokens; begin += kGatherTokens) {
    const int64_t count = std::min(kGatherTokens, tokens - begin);
    const Tensor x =
        InputsOf(machine, inputs, outputs.tokens.data() + begin, count, cols);
    z.narrow(1, begin, count).copy_(at::mm(n, x.t()));
  }
  const Tensor a = View(a_values, {rows, rank});
  Tensor errors = machine.On(View(outputs.wanted.data(), {rows, tokens})) -
                  at::mm(machine.On(a), z);
  z = at::linalg_solve_triangular(*l, z, /*upper=*/false);
  const Tensor slopes = machine.On(View(outputs.slopes.data(), {rows, tokens}));
  const Tensor k = machine.On(View(outputs.gram.data(), {rows, rows}));
  const auto pull = [&](Tensor error) {
    return at::mm(at::mm(k, error.mul_(slopes)).mul_(slopes), z.t());
  };
  const Tensor squares = at::linalg_vector_norm(z, 2, {0}).square();
  const double curvature =
      Dot(at::mv(slopes.square(), squares), k.diagonal().contiguous()) /
      static_cast<double>(rows * rank);
  const double ridge = SharedPart(cols, tokens) * curvature;

  Tensor left = pull(std::move(errors));
  Tensor direction = left.clone();
  Tensor q = at::zeros_like(left);
  double square = Dot(left, left);
  for (int step = 0; step < kOutputSteps; ++step) {
    const Tensor curved = pull(at::mm(direction, z)).add_(direction, ridge);
    const double curve = Dot(direction, curved);
    if (!(curve > 0)) break;
    q.add_(direction, square / curve);
    left.sub_(curved, square / curve);
    const double before = square;
    square = Dot(left, left);
    direction.mul_(square / before).add_(left);
  }
  a.add_(at::linalg_solve_triangular(*l, q, /*upper=*/false, /*left=*/false)
             .cpu());
}

}  // namespace mobe::torch
