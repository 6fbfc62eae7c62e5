#include "fit/torch/solve.h"

#include <algorithm>
#include <utility>

#include "fit/diagonal.h"
#include "fit/output_solve.h"
#include "fit/weighted_solve.h"

namespace mobe::torch {
namespace {

// body(first, x) for the inputs x [count, cols] of each of these tokens, some
// at a time.
template <class Body>
void ForInputs(const Machine& machine, const RoutedInputs& inputs, int64_t cols,
               const int32_t* tokens, int64_t size, const Body& body) {
  const Tensor all =
      at::from_blob(const_cast<BFloat16*>(inputs.x.data()),
                    {inputs.x.size() / cols, cols}, at::kBFloat16);
  const Tensor places =
      at::from_blob(const_cast<int32_t*>(tokens), {size}, at::kInt);
  int64_t first = 0;
  for (const Tensor& some : places.split(kGatherTokens)) {
    body(first, machine.On(all.index_select(0, some)));
    first += some.size(0);
  }
}

// The moment that weighs an expert's error: weighted_solve.h.
Tensor MomentOf(const Machine& machine, const FitTarget& target,
                const Tensor& layer, int64_t expert) {
  Tensor moment = layer.clone();
  const RoutedInputs& inputs = target.inputs;
  if (!inputs.empty()) {
    // Of the tokens that chose it, of mean diagonal 1.
    const int64_t begin = inputs.starts[static_cast<size_t>(expert)];
    const int64_t size = inputs.starts[static_cast<size_t>(expert + 1)] - begin;
    Tensor own = at::zeros_like(layer);
    ForInputs(machine, inputs, target.cols, inputs.tokens.data() + begin, size,
              [&](int64_t first, Tensor x) {
                const float* weights = inputs.weights.data() + begin + first;
                x.mul_(machine.On(View(weights, {x.size(0), 1})));
                own.addmm_(x.t(), x);
              });
    const auto mean = own.diagonal().mean().item<float>();
    if (mean > 0) {  // else no token chose it
      moment.lerp_(own.div_(mean), 1 - SharedPart(target.cols, size));
    }
  }
  moment.diagonal().add_(kMomentFloor);
  return moment;
}

// Rows of a Gram matrix may differ by orders of magnitude. The roots of its
// diagonal [n, 1], by which it is divided, bring each to 1, so that a ridge is
// a share of its own.
Tensor SizesOf(const Tensor& gram) {
  return gram.diagonal().clamp_min(kLeastRidge).sqrt().unsqueeze(1);
}

double Dot(const Tensor& a, const Tensor& b) {
  return at::dot(a.flatten(), b.flatten()).item<double>();
}

}  // namespace

void SolveA(const Machine& machine, const FitTarget& target, Factors* factors) {
  const int64_t rank = factors->rank;
  const int64_t m = factors->num_bases;
  const int64_t cols = target.cols;
  const int64_t size = target.rows * rank;
  const Tensor bases =
      machine.On(View(factors->bases.data(), {m, rank * cols}));
  const Tensor alpha =
      machine.On(View(factors->alpha.data(), {target.experts, m}));
  const bool weighed = target.moment.size() > 0;
  Tensor layer;
  if (weighed) layer = machine.On(View(target.moment.data(), {cols, cols}));
  factors->a.Resize(target.experts * size);
  for (int64_t e = 0; e < target.experts; ++e) {
    const Tensor n =
        Activate(factors->activation,
                 at::mm(alpha.narrow(0, e, 1), bases).view({rank, cols}));
    const Tensor w = machine.On(View(target.matrix(e), {target.rows, cols}));
    // In double where a moment spans more orders of magnitude than float32 has.
    const auto dtype = weighed ? at::kDouble : at::kFloat;
    const Tensor ns =
        weighed ? at::mm(n, MomentOf(machine, target, layer, e)) : n;
    const Tensor gram = at::mm(ns, n.t()).to(dtype);
    const Tensor cross = at::mm(ns, w.t()).to(dtype);
    const Tensor sizes =
        weighed ? SizesOf(gram) : at::ones({1, 1}, gram.options());
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
  const Tensor g = machine.On(View(gram.data(), {rank, rank}));
  const Tensor sizes = SizesOf(g);
  const Tensor unit = g / sizes / sizes.t();
  const Tensor factor =
      Factor(unit, at::full({1}, kRidge, unit.options()), /*tries=*/5);
  if (!factor.defined()) return;
  const Tensor l = factor * sizes;
  // z = N x, errors = W x - A z; then L^-1 z, in which A - A_0 = Q L^-1.
  const Tensor n = machine.On(View(mix.data(), {rank, cols}));
  Tensor z = machine.Empty({rank, tokens});
  ForInputs(machine, inputs, cols, outputs.tokens.data(), tokens,
            [&](int64_t first, const Tensor& x) {
              z.narrow(1, first, x.size(0)).copy_(at::mm(n, x.t()));
            });
  const Tensor a = View(a_values, {rows, rank});
  Tensor errors = machine.On(View(outputs.wanted.data(), {rows, tokens})) -
                  at::mm(machine.On(a), z);
  z = at::linalg_solve_triangular(l, z, /*upper=*/false);
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
  a.add_(
      at::linalg_solve_triangular(l, q, /*upper=*/false, /*left=*/false).cpu());
}

}  // namespace mobe::torch
