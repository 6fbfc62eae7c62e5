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

using internal::GroupBegin;

// H, lower triangular, with H H^T = moment + kBasesFloor I.
Tensor RootOf(const Tensor& moment) {
  Tensor floored = moment.clone();
  floored.diagonal().add_(internal::kBasesFloor);
  const auto [root, info] = at::linalg_cholesky_ex(floored);
  if (info.any().item<bool>()) {
    Fail(ErrorKind::kUserInput,
         "the second moment of the experts' input is not positive definite; "
         "calibrate again");
  }
  return root;
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
    Tensor gram = at::mm(z, z.t());
    const float least = gram.diagonal().min().item<float>();
    if (round > 0 && least > internal::kLongEnough) break;
    const Tensor ridge =
        (gram.trace() * internal::kStartRidge).clamp_min(1e-30);
    gram.diagonal().add_(ridge);
    const auto [factor, info] = at::linalg_cholesky_ex(gram);
    z = at::linalg_solve_triangular(factor, z, /*upper=*/false);
  }
  return z;
}

// Orthonormal rows that span those of the matrix.
Tensor OrthonormalRows(const Tensor& matrix) {
  return std::get<0>(at::linalg_qr(matrix.t())).t();
}

}  // namespace

State::State(const Machine& machine, const FitTarget& target,
             const FitOptions& options)
    : machine_(machine),
      target_(target),
      options_(options),
      scale_(target.scale),
      basis_rank_(options.rank) {
  const int64_t n = target.experts;
  const int64_t r = options.rank;
  weights_ = View(target.weights.data(), {n, target.rows, target.cols});
  if (target.moment.size() > 0) {
    root_ = RootOf(
        machine_.On(View(target.moment.data(), {target.cols, target.cols})));
    square_of_root_ = SquaresOf(root_).sum().item<double>() /
                      static_cast<double>(target.cols);
  }
  LoadTarget();
  bases_ = at::empty({options.num_bases, r, target.cols}, Floats());
  Start();
  gradient_ = at::empty_like(bases_);
  velocity_ = at::zeros_like(bases_);
  columns_.mean = at::empty({target.cols, target.cols}, Floats());
  ranks_.mean = at::empty({r, r}, Floats());
}

at::TensorOptions State::Floats() const {
  return at::device(machine_.device).dtype(at::kFloat);
}

// What A f(M) is to come near: W, or with a moment W H.
void State::LoadTarget() {
  const int64_t step = machine_.chunk;
  if (root_.defined()) {
    weighed_ =
        at::empty(weights_.sizes(),
                  machine_.target_on_host ? weights_.options() : Floats());
    for (int64_t i = 0; i < target_.experts; i += step) {
      const int64_t count = std::min(step, target_.experts - i);
      weighed_.narrow(0, i, count)
          .copy_(at::matmul(machine_.On(weights_.narrow(0, i, count)), root_));
    }
  } else {
    weighed_ =
        machine_.target_on_host ? HalfIfExact(weights_) : machine_.On(weights_);
  }
  norms_ = machine_.On(SquaresOf(weighed_), at::kDouble).div_(scale_ * scale_);
}

// Spaces that span most of each group of experts: spaces.cc.
void State::Start() {
  const int64_t m = options_.num_bases;
  Buffer<float> signs;
  for (int64_t g = 0; g < m; ++g) {
    const int64_t first = GroupBegin(g, target_.experts, m);
    const int64_t count = GroupBegin(g + 1, target_.experts, m) - first;
    const Tensor stacked = machine_.On(weights_.narrow(0, first, count))
                               .reshape({count * target_.rows, target_.cols});
    signs.Resize(options_.rank * stacked.size(0));
    const auto unit = static_cast<float>(1 / scale_);
    internal::FillWithSigns(options_.seed, g, unit, &signs);
    const Tensor sketch =
        machine_.On(View(signs.data(), {options_.rank, stacked.size(0)}));
    const Tensor once = Orthonormalise(at::mm(sketch, stacked));
    const Tensor again = at::mm(once, stacked.t()) * unit;
    bases_.select(0, g).copy_(Orthonormalise(at::mm(again, stacked)));
  }
}

double State::Differentiate(int64_t pass, bool exact,
                            const Buffer<float>& alpha,
                            Buffer<float>* d_alpha) {
  pass_ = pass;
  seen_ = 0;
  const Tensor d = at::empty({target_.experts, options_.num_bases}, Floats());
  const double loss = Run(exact, alpha, d);
  View(d_alpha->data(), d.sizes()).copy_(d);
  return loss;
}

double State::Measure(const Buffer<float>& alpha) {
  return Run(/*exact=*/true, alpha, {});
}

// The error; where d_alpha is defined, the gradient, too.
double State::Run(bool exact, const Buffer<float>& alpha_values,
                  const Tensor& d_alpha) {
  const int64_t n = target_.experts;
  const int64_t m = options_.num_bases;
  const double unit = 1 / scale_;
  const Tensor alpha = machine_.On(View(alpha_values.data(), {n, m}));
  const Tensor flat = bases_.view({m, -1});
  Tensor explained = at::empty({n}, Floats().dtype(at::kDouble));
  for (int64_t first = 0; first < n; first += machine_.chunk) {
    const int64_t count = std::min(machine_.chunk, n - first);
    const Tensor part = alpha.narrow(0, first, count);
    const Tensor mix =
        at::mm(part, flat).view({count, options_.rank, target_.cols});
    Tensor y = Activate(options_.activation, mix);
    if (root_.defined()) y = machine_.Multiply(y, root_, exact);
    const Tensor v = machine_.On(weighed_.narrow(0, first, count));
    // L L^T = Y Y^T, and L^-1 Y V^T, whose square is what the best A explains.
    const Tensor l = FactorGram(machine_.MultiplyBySelf(y, exact));
    Tensor a = machine_.Multiply(y, v.mT(), exact).mul_(unit);
    a = at::linalg_solve_triangular(l, a, /*upper=*/false);
    // Not SquaresOf: this is done in each pass, and of A a copy is small.
    explained.narrow(0, first, count)
        .copy_(
            at::linalg_vector_norm(a, 2, {1, 2}, false, at::kDouble).square());
    if (!d_alpha.defined()) continue;
    a = at::linalg_solve_triangular(l.mT(), a, /*upper=*/true);  // A^T
    Look(first, mix, y, l, a);
    Tensor d = machine_.Multiply(a.mT(), y, exact).sub_(v, unit);  // the error
    y.reset();
    d = machine_.Multiply(a, d, exact);
    if (root_.defined()) d = machine_.Multiply(d, root_.t(), exact);
    d = ActivateBackward(options_.activation, mix, d).view({count, -1});
    gradient_.view({m, -1}).addmm_(part.t(), d, first == 0 ? 0 : 1);
    d_alpha.narrow(0, first, count).copy_(at::mm(d, flat.t()));
  }
  return (norms_ - explained).clamp_min(0).sum().item<double>() /
         static_cast<double>(weights_.numel());
}

// Lets the metric see the experts of the chunk whose turn it is.
void State::Look(int64_t first, const Tensor& mix, const Tensor& y,
                 const Tensor& l, const Tensor& a) {
  const int64_t stride = internal::LookStride(target_.experts);
  const bool exact = options_.exact;
  for (int64_t i = 0; i < mix.size(0); ++i) {
    if (!internal::LooksAt(first + i, pass_, stride)) continue;
    const Tensor q = at::linalg_solve_triangular(l[i], y[i], /*upper=*/false);
    Tensor spanned = machine_.MultiplyBySelf(q.t(), exact);
    Tensor slopes = machine_.MultiplyBySelf(a[i], exact);
    if (options_.activation != Activation::kIdentity) {
      const Tensor f =
          ActivateBackward(options_.activation, mix[i], at::ones_like(mix[i]));
      slopes.mul_(machine_.MultiplyBySelf(f, exact))
          .div_(static_cast<double>(target_.cols));
    }
    if (seen_ == 0) {
      spanned_ = spanned;
      slopes_ = slopes;
    } else {
      spanned_.add_(spanned);
      slopes_.add_(slopes);
    }
    ++seen_;
  }
}

// Renews the means of the metric and its inverses by what was seen.
void State::RenewMetric() {
  if (seen_ == 0) return;
  const auto renew = [&](const Tensor& fresh, Tensor* mean) {
    if (pass_ == 1) {
      mean->copy_(fresh);
    } else {
      mean->mul_(1 - internal::kRenew).add_(fresh, internal::kRenew);
    }
  };
  spanned_.div_(-static_cast<double>(seen_));
  spanned_.diagonal().add_(1);
  renew(spanned_, &columns_.mean);
  spanned_.reset();
  renew(slopes_.div_(static_cast<double>(seen_)), &ranks_.mean);
  slopes_.reset();
  if (root_.defined()) {
    Tensor inner = columns_.mean.tril() + columns_.mean.tril(-1).t();
    inner.diagonal().add_(internal::kProjectionFloor);
    inner = at::mm(at::mm(root_, inner), root_.t());
    columns_.inverse =
        InvertDamped(inner, internal::kColumnDamping * square_of_root_);
  } else {
    columns_.inverse = InvertDamped(columns_.mean, internal::kColumnDamping);
  }
  ranks_.inverse = InvertDamped(ranks_.mean, DampingOf(ranks_.mean));
}

double State::DampingOf(const Tensor& mean) {
  return std::max(internal::kDamping * mean.diagonal().mean().item<double>(),
                  1e-30);
}

// gradient = H^-1 gradient, in place.
void State::ApplyMetric(const Buffer<float>& alpha_values) {
  const int64_t m = options_.num_bases;
  const Tensor alpha =
      machine_.On(View(alpha_values.data(), {target_.experts, m}));
  const Tensor gram = at::mm(alpha.t(), alpha);
  const Tensor inverse = InvertDamped(gram, DampingOf(gram));
  // By rows of all bases, then by bases: little is in memory twice.
  const Tensor by_row = gradient_.transpose(0, 1);  // [rank, bases, cols]
  const int64_t rows = std::max<int64_t>(options_.rank * machine_.chunk / m, 1);
  for (int64_t row = 0; row < options_.rank; row += rows) {
    const int64_t count = std::min(rows, options_.rank - row);
    Tensor part = by_row.narrow(0, row, count);
    part.copy_(at::matmul(inverse, part));
  }
  for (int64_t i = 0; i < m; ++i) {
    Tensor part = gradient_.select(0, i);
    const Tensor between =
        machine_.Multiply(ranks_.inverse, part, options_.exact);
    part.copy_(machine_.Multiply(between, columns_.inverse, options_.exact));
  }
}

void State::Step(const Buffer<float>& alpha, double step, double momentum) {
  RenewMetric();
  ToTangents();
  ApplyMetric(alpha);
  // Of directions, not of gradients: bases grow a lot at first, and old
  // gradients would be too long for the metric of today.
  velocity_.lerp_(gradient_, 1 - momentum);
  bases_.sub_(velocity_, step);
}

void State::FixScale(double wanted) {
  const double root = std::sqrt(SquaresOf(bases_).sum().item<double>() /
                                static_cast<double>(bases_.numel()));
  if (!(root > 0) || !std::isfinite(root)) return;
  bases_.mul_(wanted / root);
  velocity_.mul_(wanted / root);
}

void State::Narrow(int64_t basis_rank) {
  basis_rank_ = basis_rank;
  right_ = at::empty({options_.num_bases, basis_rank, target_.cols}, Floats());
  left_ = at::empty({options_.num_bases, basis_rank, options_.rank}, Floats());
  for (int64_t i = 0; i < options_.num_bases; ++i) {
    const Tensor v = std::get<2>(at::linalg_svd(bases_[i], false));
    right_[i].copy_(v.narrow(0, 0, basis_rank));
  }
}

void State::Retract() {
  if (basis_rank_ == options_.rank) return;
  for (int64_t i = 0; i < options_.num_bases; ++i) {
    const Tensor u = OrthonormalRows(at::mm(right_[i], bases_[i].t()));
    const Tensor v = at::mm(u, bases_[i]);
    left_[i].copy_(u);
    bases_[i].copy_(at::mm(u.t(), v));
    right_[i].copy_(OrthonormalRows(v));
  }
}

// Takes from the gradient (I - U U^T) G (I - V^T V).
void State::ToTangents() {
  if (basis_rank_ == options_.rank) return;
  for (int64_t i = 0; i < options_.num_bases; ++i) {
    const Tensor u = left_[i];
    const Tensor v = right_[i];
    const Tensor g = gradient_[i];
    Tensor normal = g - at::mm(at::mm(g, v.t()), v);
    normal.sub_(at::mm(u.t(), at::mm(u, normal)));
    gradient_[i].sub_(normal);
  }
}

void State::Save() {
  if (!best_.defined()) best_ = at::empty_like(bases_, at::kBFloat16);
  best_.copy_(bases_);
}

void State::Restore() {
  bases_.copy_(best_);
  velocity_.zero_();
}

std::vector<double> State::Gram() {
  constexpr int64_t kColumns = 1 << 20;
  const int64_t m = options_.num_bases;
  const Tensor flat = bases_.view({m, -1});
  Tensor gram = at::zeros({m, m}, Floats().dtype(at::kDouble));
  for (int64_t i = 0; i < flat.size(1); i += kColumns) {
    const Tensor part =
        flat.narrow(1, i, std::min(kColumns, flat.size(1) - i)).to(at::kDouble);
    gram.addmm_(part, part.t());
  }
  gram = gram.cpu();
  const double* values = gram.const_data_ptr<double>();
  return {values, values + m * m};
}

Buffer<float> State::Bases() { return ToHost(bases_); }

}  // namespace mobe::torch
