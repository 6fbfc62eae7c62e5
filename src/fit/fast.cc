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
// are projected on their form (project.h). docs/fit.md has what was tried
// and what it gave.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <random>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/fit.h"
#include "fit/metric.h"
#include "fit/pass.h"
#include "fit/project.h"
#include "kernels/kernels.h"

namespace mobe::internal {
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
// Products of fewer multiplications gain nothing by bfloat16.
constexpr int64_t kSmallProduct = 1 << 20;
// Share of the passes, the last ones, that multiply in float32 in any case.
constexpr double kPolish = 0.03;

Factors Start(const FitTarget& target, const FitOptions& options) {
  const int64_t m = options.num_bases;
  Factors factors;
  factors.num_bases = m;
  factors.rank = options.rank;
  factors.activation = options.activation;
  factors.bases = GroupedSpaces(target, m, options.rank, options.seed);
  factors.alpha.Resize(target.experts * m);
  std::mt19937_64 random(options.seed);
  // With a basis for each expert one-hot is the answer.
  const float noise = m < target.experts ? kAlphaNoise : 0.0f;
  std::normal_distribution<float> normal(0.0f, 1.0f);
  for (float& value : factors.alpha) value = noise * normal(random);
  for (int64_t group = 0; group < m; ++group) {
    const int64_t end = GroupBegin(group + 1, target.experts, m);
    for (int64_t e = GroupBegin(group, target.experts, m); e < end; ++e) {
      factors.alpha[e * m + group] += 1;
    }
  }
  return factors;
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

// The state to go back to. Bases as bfloat16: it is half the memory, and they
// end as that.
struct Best {
  double loss = std::numeric_limits<double>::infinity();
  Buffer<BFloat16> bases;
  Buffer<float> alpha;

  // Any state will be better.
  void Forget() { loss = std::numeric_limits<double>::infinity(); }
  void Save(double now, const Factors& factors) {
    loss = now;
    alpha.CopyFrom(factors.alpha);
    bases.Resize(factors.bases.size());
    Each(bases.size(), [&](int64_t begin, int64_t count) {
      Kernels().to_bfloat16(factors.bases.data() + begin, count,
                            bases.data() + begin);
    });
  }
  void Restore(Factors* factors) const {
    factors->alpha.CopyFrom(alpha);
    Each(bases.size(), [&](int64_t begin, int64_t count) {
      Kernels().from_bfloat16(bases.data() + begin, count,
                              factors->bases.data() + begin);
    });
  }

 private:
  template <class Body>
  static void Each(int64_t size, const Body& body) {
    constexpr int64_t kGrain = 1 << 16;
    ParallelRanges(size, kGrain, [&](int64_t begin, int64_t end) {
      body(begin, end - begin);
    });
  }
};

// velocity = kMomentum * velocity + (1 - kMomentum) * direction;
// bases -= step * velocity.
//
// The velocity is of directions, not of gradients: bases grow a lot at first,
// and old gradients would be too long for the metric of today.
void Move(double step, const Buffer<float>& direction, Buffer<float>* velocity,
          Buffer<float>* bases) {
  const auto add = static_cast<float>(1 - kMomentum);
  constexpr int64_t kGrain = 1 << 16;
  ParallelRanges(bases->size(), kGrain, [&](int64_t begin, int64_t end) {
    float* v = velocity->data() + begin;
    float* b = bases->data() + begin;
    for (int64_t i = 0; i < end - begin; ++i) {
      v[i] += add * (direction[begin + i] - v[i]);
    }
    Kernels().subtract(b, static_cast<float>(step), v, end - begin, b);
  });
}

// Multiplies bases and velocity by what makes the root of the bases' mean
// square kBasesScale.
void FixScale(Buffer<float>* bases, Buffer<float>* velocity) {
  constexpr int64_t kGrain = 1 << 16;
  const int64_t pieces = (bases->size() + kGrain - 1) / kGrain;
  std::vector<double> squares(static_cast<size_t>(pieces));
  ParallelRanges(bases->size(), kGrain, [&](int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) {
      sum += static_cast<double>((*bases)[i]) * (*bases)[i];
    }
    squares[static_cast<size_t>(begin / kGrain)] = sum;
  });
  double square = 0;
  for (const double sum : squares) square += sum;
  const double root = std::sqrt(square / static_cast<double>(bases->size()));
  if (!(root > 0) || !std::isfinite(root)) return;
  const auto factor = static_cast<float>(kBasesScale / root);
  ParallelRanges(bases->size(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      (*bases)[i] *= factor;
      (*velocity)[i] *= factor;
    }
  });
}

}  // namespace

Factors FitFast(const FitTarget& target, const FitOptions& options,
                const PassFn& on_pass) {
  Factors factors = Start(target, options);
  const bool large = target.matrix_size() * options.rank >= kSmallProduct;
  const Precision fastest =
      large && HasFastBFloat16() ? Precision::kBFloat16 : Precision::kFloat32;
  FitPass pass_of(target, options);
  FitMetric metric(target, options, fastest, pass_of.root());
  Adam adam_alpha(factors.alpha.size());
  Buffer<float> d_alpha(factors.alpha.size());
  Buffer<float> d_bases(factors.bases.size());
  Buffer<float> velocity(factors.bases.size());
  std::fill(velocity.begin(), velocity.end(), 0.0f);
  FixScale(&factors.bases, &velocity);
  Best best;
  Guard guard;
  Projection projection(target, options);
  const auto warmup = static_cast<double>(
      std::clamp(options.passes / kWarmupShare, kLeastWarmup, kMostWarmup));
  double shrink = 1;
  int64_t since_restart = 0;
  for (int64_t pass = 1; pass <= options.passes; ++pass) {
    const double done =
        static_cast<double>(pass - 1) / static_cast<double>(options.passes);
    const Precision precision =
        done < 1 - kPolish ? fastest : Precision::kFloat32;
    metric.Begin(pass);
    const double loss = pass_of.Differentiate(
        precision, factors, d_bases.data(), d_alpha.data(), &metric);
    if (pass == 1 && !std::isfinite(loss)) {
      Fail(ErrorKind::kUnsupported,
           "the fit overflows float32 at its start: the weights are too large "
           "(standard deviation {:.3g})",
           target.scale);
    }
    on_pass(pass, options.passes, loss);
    const bool astray = guard.IsAstray(loss, best.loss);
    if (loss < best.loss) {
      best.Save(loss, factors);
    } else if (astray) {
      best.Restore(&factors);
      projection.Follow(&factors);
      std::fill(velocity.begin(), velocity.end(), 0.0f);
      adam_alpha = Adam(factors.alpha.size());
      shrink *= kShrink;
      since_restart = 0;
      continue;
    }
    metric.End();
    projection.Tangent(&d_bases);
    metric.Apply(factors.alpha, &d_bases);
    ++since_restart;
    shrink = std::min(shrink * kRecovery, 1.0);
    const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * done));
    const double warm =
        std::min(1.0, static_cast<double>(since_restart) / warmup);
    Move(kStep * shrink * warm * cosine, d_bases, &velocity, &factors.bases);
    FixScale(&factors.bases, &velocity);
    adam_alpha.Step(since_restart, kAlphaRate * shrink * cosine, d_alpha.data(),
                    factors.alpha.data());
    if (projection.Apply(done, &factors)) best.Forget();
  }
  // The last step was not measured yet. The best state went through bfloat16,
  // so that a tie is for the last one.
  const double last = pass_of.Measure(Precision::kFloat32, factors);
  if (!(last < kTie * best.loss + kRounding)) {
    best.Restore(&factors);
  }
  return factors;
}

}  // namespace mobe::internal
