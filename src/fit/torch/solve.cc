#include "fit/torch/solve.h"

#include <algorithm>
#include <optional>

#include "fit/diagonal.h"
#include "fit/weighted_solve.h"

namespace mobe::torch {
namespace {

// The moment that weighs an expert's error: weighted_solve.h.
class Moments {
 public:
  Moments(const Machine& machine, const FitTarget& target)
      : inputs_(target.inputs), cols_(target.cols) {
    layer_ = machine.On(View(target.moment.data(), {cols_, cols_}));
    if (inputs_.empty()) return;
    // bfloat16, of which PyTorch has no view of ours.
    x_ = at::from_blob(const_cast<BFloat16*>(inputs_.x.data()),
                       {inputs_.x.size() / cols_, cols_}, at::kBFloat16)
             .to(machine.device);
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

}  // namespace mobe::torch
