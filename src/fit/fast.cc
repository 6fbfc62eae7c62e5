// The fast solver: variable projection (Golub and Pereyra 1973). A is linear,
// so for given N_e = f(sum_i alpha_ei B_i) the best one is known in closed form
// (pass.h), and the gradient of the error to bases and alpha is the one at
// that A.
//
// Bases move by gradient with momentum in a Kronecker-factored Gauss-Newton
// metric (metric.h). Momentum bears steps of many times the Newton step,
// and they converge fastest near that limit; when the error leaps and stays up,
// the best state is restored and the step made smaller for a while. Alpha is
// free (the format stores it as used, so it needs no softmax), starts dense
// (one-hot is a saddle) and is stepped by Adam. Low-rank bases and sparse alpha
// are projected on their form (project.h). docs/lab/fit.md has what was tried
// and what it gave.
//
// What is large is moved by the device (device.h); here is what decides where
// to.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <random>
#include <utility>

#include "base/error.h"
#include "fit/device.h"
#include "fit/looks.h"
#include "fit/method.h"
#include "fit/project.h"

namespace mobe {
namespace internal {
namespace {

// Steps of the bases, in Newton steps of the metric, and of alpha (Adam's
// rate). Both follow a cosine to zero; the first passes rise to it.
constexpr double kStep = 43;
constexpr double kMomentum = 0.95;
constexpr double kAlphaRate = 0.008;
// Where the step is as large as it can be, the first passes decide whether the
// fit goes astray: a long fit rises slowly, for an eighth of its passes.
constexpr int64_t kLeastWarmup = 20;
constexpr int64_t kMostWarmup = 60;
constexpr int64_t kWarmupShare = 8;
constexpr float kAlphaNoise = 0.3f;
// An error this much above the best one, in so many passes in a row, or so far
// above it in a single one, has gone astray. Single leaps are common while the
// step is at its largest, and pass by themselves: to go back at each of them
// ends up to 4% worse. The first passes may rise above their start by less.
// Errors below kRounding are nothing but that.
constexpr double kAstray = 1.3;
constexpr int kPatience = 3;
constexpr double kFarAstray = 2;
constexpr double kRounding = 1e-5;
constexpr double kTie = 1.001;
// The step is shortened then, and recovers: what is too long at first is not
// too long later.
constexpr double kShrink = 0.7;
constexpr double kRecovery = 1.005;
// Root of the mean square of the bases, to which they are brought back after
// each step. Left to themselves they grow without end, a step at a time, to 1e8
// and more: silu is then a ReLU, tanh a sign, and float16 holds neither. The
// scale decides how much of f's curve is in use. Error of the bundled model's
// layers 2 and 3 at 0.1, 0.2, 0.4, and free: silu 0.0236, 0.0235, 0.0236,
// 0.0237; tanh at 0.2, 1, 4, and free: 0.0247, 0.0250, 0.0329, 0.0278.
constexpr double kBasesScale = 0.2;
// Share of the passes, the last ones, that multiply in float32 in any case.
constexpr double kPolish = 0.03;

Buffer<float> StartAlpha(int64_t experts, const FitOptions& options) {
  const int64_t m = options.num_bases;
  Buffer<float> alpha(experts * m);
  std::mt19937_64 random(options.seed);
  // With a basis for each expert one-hot is the answer.
  const float noise = m < experts ? kAlphaNoise : 0.0f;
  std::normal_distribution<float> normal(0.0f, 1.0f);
  for (float& value : alpha) value = noise * normal(random);
  for (int64_t group = 0; group < m; ++group) {
    const int64_t end = GroupBegin(group + 1, experts, m);
    for (int64_t e = GroupBegin(group, experts, m); e < end; ++e) {
      alpha[e * m + group] += 1;
    }
  }
  return alpha;
}

// Tells whether the fit has gone astray.
class Guard {
 public:
  bool IsAstray(double loss, double best) {
    const auto within = [&](double factor) {  // false for NaN
      return loss < factor * best + kRounding;
    };
    high_ = within(kAstray) ? 0 : high_ + 1;
    const bool astray = high_ == kPatience || !within(kFarAstray);
    if (astray) high_ = 0;
    return astray;
  }

 private:
  int high_ = 0;  // passes in a row above kAstray
};

// The best state so far, of which the device keeps the bases.
struct Best {
  double loss = std::numeric_limits<double>::infinity();
  Buffer<float> alpha;

  // Any state will be better.
  void Forget() { loss = std::numeric_limits<double>::infinity(); }
  void Save(double now, const Buffer<float>& now_alpha, FitState* state) {
    loss = now;
    alpha.CopyFrom(now_alpha);
    state->Save();
  }
  void Restore(Buffer<float>* to, FitState* state) const {
    to->CopyFrom(alpha);
    state->Restore();
  }
};

FitParts FastOperations(const FitShape& shape) {
  const auto n = static_cast<double>(shape.experts);
  const auto p = static_cast<double>(shape.rows);
  const auto d = static_cast<double>(shape.cols);
  const auto r = static_cast<double>(shape.rank);
  const auto m = static_cast<double>(shape.num_bases);
  const auto k = static_cast<double>(shape.basis_rank);
  const double height = n / m * p;  // of a group of the start
  FitParts result;
  // Mixing, and its transpose to bases and alpha.
  result.pass = 6 * n * m * r * d;
  // The start (spaces.cc): three products with a group; two
  // orthonormalisations, mostly of one round and a look at what it gave.
  result.fixed = m * (6 * r * height * d + 10 * r * r * d);
  // N N^T, W N^T; Cholesky and both triangular solves.
  double solve =
      n * (r * r * d + 2 * p * r * d + r * r * r / 3 + 2 * r * r * p);
  if (shape.pairs > 0) solve += 2 * n * r * d * d;  // N H
  // A N, A^T error.
  result.pass += solve + 4 * n * p * r * d;
  // The metric (metric.h): its use, and what it sees of some experts.
  result.pass += 2 * m * m * r * d + 2 * m * r * r * d + 2 * m * r * d * d;
  result.pass += 8 * m * r * d * k;  // low-rank bases (project.h)
  const double seen = std::min(n, static_cast<double>(kLook));
  result.look =
      seen * (r * d * d + 2 * r * r * d + p * r * r) + d * d * d + r * r * r;
  result.fixed += 2 * (solve + 2 * n * m * r * d);
  if (shape.pairs > 0) {
    result.pass += 2 * n * r * d * d;  // the gradient times H^T
    result.look += 4 * d * d * d;      // H P H^T
    // W H; then the last solve (weighted_solve.h): each expert's moment, N and
    // W by it.
    result.fixed += 2 * n * p * d * d + OperationsOfText(shape) +
                    n * (2 * r * d * d + 4 * p * r * d);
  }
  return result;
}

Factors FitFast(const FitTarget& target, const FitOptions& options,
                const PassFn& on_pass) {
  const std::unique_ptr<FitState> state =
      DeviceOf(options).Begin(target, options);
  state->FixScale(kBasesScale);
  Buffer<float> alpha = StartAlpha(target.experts, options);
  Buffer<float> d_alpha(alpha.size());
  Adam adam(alpha.size());
  Best best;
  Guard guard;
  Form form = {options.num_bases, options.rank};
  SparseAlpha sparse;
  const auto warmup = static_cast<double>(
      std::clamp(options.passes / kWarmupShare, kLeastWarmup, kMostWarmup));
  double shrink = 1;
  int64_t since_restart = 0;
  for (int64_t pass = 1; pass <= options.passes; ++pass) {
    const double done =
        static_cast<double>(pass - 1) / static_cast<double>(options.passes);
    const bool exact = options.exact || done >= 1 - kPolish;
    const double loss = state->Differentiate(pass, exact, alpha, &d_alpha);
    if (pass == 1 && !std::isfinite(loss)) {
      Fail(ErrorKind::kUnsupported,
           "the fit overflows float32 at its start: the weights are too large "
           "(standard deviation {:.3g})",
           target.scale);
    }
    on_pass(pass, options.passes, loss);
    const bool astray = guard.IsAstray(loss, best.loss);
    if (loss < best.loss) {
      best.Save(loss, alpha, state.get());
    } else if (astray) {
      best.Restore(&alpha, state.get());
      state->Retract();
      adam = Adam(alpha.size());
      shrink *= kShrink;
      since_restart = 0;
      continue;
    }
    ++since_restart;
    shrink = std::min(shrink * kRecovery, 1.0);
    const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * done));
    const double warm =
        std::min(1.0, static_cast<double>(since_restart) / warmup);
    state->Step(alpha, kStep * shrink * warm * cosine, kMomentum);
    state->FixScale(kBasesScale);
    adam.Step(since_restart, kAlphaRate * shrink * cosine, d_alpha.data(),
              alpha.data());
    const Form next = FormAt(options, done);
    if (next.basis_rank < form.basis_rank) state->Narrow(next.basis_rank);
    if (next.alphas < form.alphas) {
      sparse.Narrow(state->Gram(), options.num_bases, next.alphas, &alpha);
    }
    if (next.basis_rank < form.basis_rank || next.alphas < form.alphas) {
      best.Forget();  // errors of before do not compare
    }
    form = next;
    state->Retract();
    sparse.Apply(&alpha);
  }
  // The last step was not measured yet. The best state went through bfloat16,
  // so that a tie is for the last one.
  const double last = state->Measure(alpha);
  if (!(last < kTie * best.loss + kRounding)) {
    best.Restore(&alpha, state.get());
  }
  Factors factors;
  factors.num_bases = options.num_bases;
  factors.rank = options.rank;
  factors.activation = options.activation;
  factors.bases = state->Bases();
  factors.alpha = std::move(alpha);
  return factors;
}

FitMemory FastMemory(const FitShape& shape, const FitDevice& device) {
  return device.Memory(shape);
}

}  // namespace
}  // namespace internal

const Method kFastSolver = {.name = "fast",
                            .calibrates = true,
                            .has_devices = true,
                            .splits = true,
                            .leaves_a = true,
                            .fit = internal::FitFast,
                            .numbers = NumbersOfFactors,
                            .operations = internal::FastOperations,
                            .memory = internal::FastMemory};

}  // namespace mobe
