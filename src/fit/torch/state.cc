// A fit on a device of PyTorch: the formulas are those of pass.h, metric.h and
// project.h, over chunks of experts.
#include "fit/torch/state.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "fit/looks.h"
#include "fit/pass.h"
#include "fit/spaces.h"

namespace mobe::torch {
namespace {

// H, lower triangular, with H H^T = moment + kBasesFloor I.
Tensor RootOf(const Tensor& moment) {
  const Tensor root =
      Factor(moment, at::full({1}, internal::kBasesFloor, moment.options()),
             /*tries=*/1);
  if (root.defined()) return root;
  Fail(ErrorKind::kUserInput,
       "the second moment of the experts' input is not positive definite; "
       "calibrate again");
}

// The same numbers in bfloat16, if that holds all of them: those of most
// checkpoints.
Tensor HalfIfExact(const Tensor& x) {
  Tensor half = at::empty(x.sizes(), x.options().dtype(at::kBFloat16));
  for (int64_t i = 0; i < x.size(0); ++i) {
    half[i].copy_(x[i]);
    if (!half[i].to(at::kFloat).equal(x[i])) return x;
  }
  return half;
}

// Orthonormal rows that span those of z [rank, cols], nearly: spaces.cc.
Tensor Orthonormalise(Tensor z) {
  for (int round = 0; round < internal::kStartRounds; ++round) {
    const Tensor gram = at::mm(z, z.t());
    const float least = gram.diagonal().min().item<float>();
    if (round > 0 && least > internal::kLongEnough) break;
    const Tensor ridge =
        (gram.trace() * internal::kStartRidge).clamp_min(1e-30).view({1});
    const Tensor l = Factor(gram, ridge, /*tries=*/1);
    if (!l.defined()) {
      Fail(ErrorKind::kInternal, "the start of the fit is not definite");
    }
    z = at::linalg_solve_triangular(l, z, /*upper=*/false);
  }
  return z;
}

// Orthonormal rows that span those of each matrix.
Tensor OrthonormalRows(const Tensor& matrices) {
  return std::get<0>(at::linalg_qr(matrices.mT())).mT();
}

double DampingOf(const Tensor& matrix) {
  const double mean = matrix.diagonal().mean().item<double>();
  return std::max(internal::kDamping * mean, 1e-30);
}

class State : public FitState {
 public:
  State(const Machine& machine, const FitTarget& target,
        const FitOptions& options)
      : machine_(machine),
        options_(options),
        experts_(target.experts),
        cols_(target.cols),
        unit_(1 / target.scale) {
    const Tensor weights =
        View(target.weights.data(), {target.experts, target.rows, target.cols});
    LoadTarget(weights, target.moment);
    bases_ = machine.Empty({options.num_bases, options.rank, cols_});
    Start(weights);
    gradient_ = at::empty_like(bases_);
    velocity_ = at::zeros_like(bases_);
  }

  double Differentiate(int64_t pass, bool exact, const Buffer<float>& alpha,
                       Buffer<float>* d_alpha) override {
    pass_ = pass;
    seen_ = 0;
    const Tensor d = machine_.Empty({experts_, options_.num_bases});
    const double loss = Run(exact, alpha, d);
    View(d_alpha->data(), d.sizes()).copy_(d);
    return loss;
  }

  double Measure(const Buffer<float>& alpha) override {
    return Run(/*exact=*/true, alpha, {});
  }

  void Step(const Buffer<float>& alpha, double step, double momentum) override {
    if (seen_ > 0) RenewMetric();
    if (right_.defined()) ToTangents();
    ApplyMetric(alpha);
    // Of directions, not of gradients: bases grow a lot at first, and old
    // gradients would be too long for the metric of today.
    velocity_.lerp_(gradient_, 1 - momentum);
    bases_.sub_(velocity_, step);
  }

  void FixScale(double wanted) override {
    const double root = std::sqrt(SquaresOf(bases_).sum().item<double>() /
                                  static_cast<double>(bases_.numel()));
    if (!(root > 0) || !std::isfinite(root)) return;
    bases_.mul_(wanted / root);
    velocity_.mul_(wanted / root);
  }

  void Narrow(int64_t basis_rank) override {
    right_ = machine_.Empty({options_.num_bases, basis_rank, cols_});
    for (int64_t i = 0; i < options_.num_bases; ++i) {
      const Tensor v = std::get<2>(at::linalg_svd(bases_[i], false));
      right_[i].copy_(v.narrow(0, 0, basis_rank));
    }
  }

  void Retract() override {
    if (!right_.defined()) return;
    left_ = machine_.Empty({options_.num_bases, right_.size(1), options_.rank});
    machine_.InChunks(options_.num_bases, [&](int64_t first, int64_t count) {
      Tensor b = bases_.narrow(0, first, count);
      Tensor right = right_.narrow(0, first, count);
      const Tensor u = OrthonormalRows(at::bmm(right, b.mT()));
      const Tensor v = at::bmm(u, b);
      at::bmm_out(b, u.mT(), v);
      left_.narrow(0, first, count).copy_(u);
      right.copy_(OrthonormalRows(v));
    });
  }

  void Save() override {
    if (!best_.defined()) best_ = at::empty_like(bases_, at::kBFloat16);
    best_.copy_(bases_);
  }

  void Restore() override {
    bases_.copy_(best_);
    velocity_.zero_();
  }

  std::vector<double> Gram() override {
    constexpr int64_t kColumns = 1 << 20;
    const int64_t m = options_.num_bases;
    Tensor gram = at::zeros({m, m}, bases_.options().dtype(at::kDouble));
    for (const Tensor& some : bases_.view({m, -1}).split(kColumns, 1)) {
      const Tensor part = some.to(at::kDouble);
      gram.addmm_(part, part.t());
    }
    gram = gram.cpu();
    const double* values = gram.const_data_ptr<double>();
    return {values, values + m * m};
  }

  Buffer<float> Bases() override {
    Buffer<float> values(bases_.numel());
    View(values.data(), bases_.sizes()).copy_(bases_);
    return values;
  }

 private:
  // What A f(M) is to come near: W, or with a moment V = W H.
  void LoadTarget(const Tensor& weights, const Buffer<float>& moment) {
    if (moment.size() == 0) {
      target_ =
          machine_.target_on_host ? HalfIfExact(weights) : machine_.On(weights);
    } else {
      root_ = RootOf(machine_.On(View(moment.data(), {cols_, cols_})));
      target_ = machine_.target_on_host ? at::empty_like(weights)
                                        : machine_.Empty(weights.sizes());
      machine_.InChunks(experts_, [&](int64_t first, int64_t count) {
        const Tensor w = machine_.On(weights.narrow(0, first, count));
        target_.narrow(0, first, count).copy_(at::matmul(w, root_));
      });
    }
    norms_ = machine_.On(SquaresOf(target_), at::kDouble).mul_(unit_ * unit_);
  }

  // Spaces that span most of each group of experts: spaces.cc.
  void Start(const Tensor& weights) {
    const int64_t m = options_.num_bases;
    Buffer<float> signs;
    for (int64_t g = 0; g < m; ++g) {
      const int64_t first = internal::GroupBegin(g, experts_, m);
      const int64_t last = internal::GroupBegin(g + 1, experts_, m);
      const Tensor stacked =
          machine_.On(weights.narrow(0, first, last - first)).flatten(0, 1);
      signs.Resize(options_.rank * stacked.size(0));
      internal::FillWithSigns(options_.seed, g, static_cast<float>(unit_),
                              &signs);
      const Tensor sketch =
          machine_.On(View(signs.data(), {options_.rank, stacked.size(0)}));
      const Tensor once = Orthonormalise(at::mm(sketch, stacked));
      const Tensor again = at::mm(once, stacked.t()).mul_(unit_);
      bases_[g].copy_(Orthonormalise(at::mm(again, stacked)));
    }
  }

  // The error; where d_alpha is defined, the gradient, too.
  double Run(bool exact, const Buffer<float>& alpha_values,
             const Tensor& d_alpha) {
    const int64_t m = options_.num_bases;
    const Tensor alpha = machine_.On(View(alpha_values.data(), {experts_, m}));
    const Tensor flat = bases_.view({m, -1});
    const Tensor explained = machine_.Empty({experts_}, at::kDouble);
    machine_.InChunks(experts_, [&](int64_t first, int64_t count) {
      const Tensor part = alpha.narrow(0, first, count);
      const Tensor mix = at::mm(part, flat).view({count, options_.rank, cols_});
      Tensor y = Activate(options_.activation, mix);
      if (root_.defined()) y = machine_.Multiply(y, root_, exact);
      const Tensor v = machine_.On(target_.narrow(0, first, count));
      // L L^T = Y Y^T, and L^-1 Y V^T, whose square is what the best A
      // explains.
      const Tensor l = FactorGram(machine_.MultiplyBySelf(y, exact));
      Tensor a = machine_.Multiply(y, v.mT(), exact).mul_(unit_);
      a = at::linalg_solve_triangular(l, a, /*upper=*/false);
      // Not SquaresOf: this is done in each pass, and of A a copy is small.
      const Tensor norms =
          at::linalg_vector_norm(a, 2, {1, 2}, false, at::kDouble);
      explained.narrow(0, first, count).copy_(norms.square());
      if (!d_alpha.defined()) return;
      a = at::linalg_solve_triangular(l.mT(), a, /*upper=*/true);  // A^T
      Look(first, mix, y, l, a);
      Tensor d = machine_.Multiply(a.mT(), y, exact).sub_(v, unit_);  // error
      y.reset();
      d = machine_.Multiply(a, d, exact);
      if (root_.defined()) d = machine_.Multiply(d, root_.t(), exact);
      d = ActivateBackward(options_.activation, mix, d).view({count, -1});
      gradient_.view({m, -1}).addmm_(part.t(), d, first == 0 ? 0 : 1);
      d_alpha.narrow(0, first, count).copy_(at::mm(d, flat.t()));
    });
    return (norms_ - explained).clamp_min(0).sum().item<double>() /
           static_cast<double>(target_.numel());
  }

  // Lets the metric see the experts of the chunk whose turn it is.
  void Look(int64_t first, const Tensor& mix, const Tensor& y, const Tensor& l,
            const Tensor& a) {
    const int64_t stride = internal::LookStride(experts_);
    const bool exact = options_.exact;
    const auto add = [&](const Tensor& one, Tensor* sum) {
      if (seen_ == 0) {
        *sum = one;
      } else {
        sum->add_(one);
      }
    };
    for (int64_t i = 0; i < mix.size(0); ++i) {
      if (!internal::LooksAt(first + i, pass_, stride)) continue;
      const Tensor q = at::linalg_solve_triangular(l[i], y[i], /*upper=*/false);
      Tensor slopes = machine_.MultiplyBySelf(a[i], exact);
      if (options_.activation != Activation::kIdentity) {
        const Tensor f = ActivateBackward(options_.activation, mix[i],
                                          at::ones_like(mix[i]));
        slopes.mul_(machine_.MultiplyBySelf(f, exact))
            .div_(static_cast<double>(cols_));
      }
      add(machine_.MultiplyBySelf(q.t(), exact), &spanned_);
      add(slopes, &slopes_);
      ++seen_;
    }
  }

  // Renews the means of the metric and its inverses by what was seen.
  void RenewMetric() {
    const auto renew = [&](const Tensor& fresh, Tensor* mean) {
      if (pass_ == 1) {
        *mean = fresh;
      } else {
        mean->mul_(1 - internal::kRenew).add_(fresh, internal::kRenew);
      }
    };
    spanned_.div_(-static_cast<double>(seen_));
    spanned_.diagonal().add_(1);
    renew(spanned_, &column_mean_);
    spanned_.reset();
    renew(slopes_.div_(static_cast<double>(seen_)), &rank_mean_);
    slopes_.reset();
    rank_inverse_ = InvertDamped(rank_mean_, DampingOf(rank_mean_));
    if (!root_.defined()) {
      column_inverse_ = InvertDamped(column_mean_, internal::kColumnDamping);
      return;
    }
    Tensor inner = column_mean_.tril() + column_mean_.tril(-1).t();
    inner.diagonal().add_(internal::kProjectionFloor);
    inner = at::mm(at::mm(root_, inner), root_.t());
    // Of H H^T, the mean of the diagonal.
    const double square =
        SquaresOf(root_).sum().item<double>() / static_cast<double>(cols_);
    column_inverse_ = InvertDamped(inner, internal::kColumnDamping * square);
  }

  // gradient = H^-1 gradient, in place, little of it at a time.
  void ApplyMetric(const Buffer<float>& alpha_values) {
    const int64_t m = options_.num_bases;
    const Tensor alpha = machine_.On(View(alpha_values.data(), {experts_, m}));
    const Tensor gram = at::mm(alpha.t(), alpha);
    const Tensor inverse = InvertDamped(gram, DampingOf(gram));
    const int64_t rows =
        std::max<int64_t>(options_.rank * machine_.chunk / m, 1);
    for (Tensor part : gradient_.transpose(0, 1).split(rows)) {
      part.copy_(at::matmul(inverse, part));  // [rows, bases, cols]
    }
    const bool exact = options_.exact;
    for (Tensor part : gradient_.split(machine_.chunk)) {
      const Tensor between = machine_.Multiply(rank_inverse_, part, exact);
      part.copy_(machine_.Multiply(between, column_inverse_, exact));
    }
  }

  // Takes from the gradient (I - U U^T) G (I - V^T V).
  void ToTangents() {
    machine_.InChunks(options_.num_bases, [&](int64_t first, int64_t count) {
      const Tensor u = left_.narrow(0, first, count);
      const Tensor v = right_.narrow(0, first, count);
      Tensor g = gradient_.narrow(0, first, count);
      Tensor normal = at::baddbmm(g, at::bmm(g, v.mT()), v, 1, -1);
      normal.baddbmm_(u.mT(), at::bmm(u, normal), 1, -1);
      g.sub_(normal);
    });
  }

  const Machine machine_;
  const FitOptions& options_;
  const int64_t experts_;
  const int64_t cols_;
  const double unit_;  // 1 / scale
  Tensor target_;      // V [experts, rows, cols]
  Tensor norms_;       // [experts]: |V_e|^2 / scale^2
  Tensor root_;        // H [cols, cols]; undefined: the identity
  Tensor bases_;       // [num_bases, rank, cols], as the next three
  Tensor gradient_;
  Tensor velocity_;
  Tensor best_;  // bfloat16
  // Low-rank bases, as in project.h: U^T and V; undefined: of any rank.
  Tensor left_;
  Tensor right_;
  // The metric of ranks and columns: means over the experts seen, of which the
  // lower triangle counts, and the inverses, damped.
  Tensor rank_mean_;
  Tensor rank_inverse_;
  Tensor column_mean_;
  Tensor column_inverse_;
  // What the experts of this pass add to it.
  int64_t pass_ = 0;
  int64_t seen_ = 0;
  Tensor spanned_;  // sum of Q^T Q [cols, cols]
  Tensor slopes_;   // sum of A^T A * F [rank, rank]
};

}  // namespace

std::unique_ptr<FitState> BeginFit(const Machine& machine,
                                   const FitTarget& target,
                                   const FitOptions& options) {
  return std::make_unique<State>(machine, target, options);
}

}  // namespace mobe::torch
