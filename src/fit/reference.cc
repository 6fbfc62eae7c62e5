// The published algorithm, exactly: Adam at rate 0.07 on A, the bases and
// softmax logits together, on weights cast to float16 and divided by their
// standard deviation, keeping the best state of every 200th pass. It is the
// yardstick; fast.cc is the tool.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "fit/device.h"
#include "fit/method.h"
#include "kernels/gemm.h"

namespace mobe {
namespace internal {
namespace {

constexpr double kLearningRate = 0.07;
constexpr int64_t kCheckEvery = 200;

float AsHalf(float value) { return HalfToFloat(FloatToHalf(value)); }

// The reference's tensors are float16, so its standard deviation and its
// quotients are rounded to float16 too.
struct HalfTarget {
  Buffer<float> weights;  // float16 values, for the grouped SVD
  Buffer<float> scaled;   // weights / scale, rounded to float16
  float scale = 1;
};

HalfTarget MakeHalfTarget(const FitTarget& target) {
  HalfTarget half;
  const int64_t size = target.weights.size();
  half.weights.Resize(size);
  half.scaled.Resize(size);
  // Of all experts, where the target is a group of them. That the weights were
  // not yet rounded for it is less than what its own rounding leaves.
  half.scale = AsHalf(static_cast<float>(target.scale));
  if (half.scale == 0) half.scale = 1;
  for (int64_t i = 0; i < size; ++i) {
    half.weights[i] = AsHalf(target.weights[i]);
    half.scaled[i] = AsHalf(half.weights[i] / half.scale);
  }
  return half;
}

void Copy(const Factors& from, Factors* to) {
  to->a.CopyFrom(from.a);
  to->bases.CopyFrom(from.bases);
  to->alpha.CopyFrom(from.alpha);
}

// The parameters as Adam sees them: A not yet scaled, logits of alpha.
Factors Start(const FitTarget& target, const HalfTarget& half,
              const FitOptions& options) {
  Factors state;
  state.num_bases = options.num_bases;
  state.rank = options.rank;
  state.activation = options.activation;
  if (options.start != nullptr) {
    Copy(*options.start, &state);
    return state;
  }
  SvdStart svd = GroupedSvd(half.weights.data(), target.experts, target.rows,
                            target.cols, options.num_bases, options.rank);
  state.a = std::move(svd.a);
  state.bases = std::move(svd.bases);
  state.alpha.Resize(target.experts * options.num_bases);
  std::fill(state.alpha.begin(), state.alpha.end(), 0.0f);
  for (int64_t e = 0; e < target.experts; ++e) {
    state.alpha[e * options.num_bases + svd.group[e]] = 1.0f;
  }
  return state;
}

void Softmax(const float* logits, int64_t count, float* out) {
  const float top = *std::max_element(logits, logits + count);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = std::exp(logits[i] - top);
    sum += out[i];
  }
  for (int64_t i = 0; i < count; ++i) {
    out[i] = static_cast<float>(out[i] / sum);
  }
}

// d_logits from d_alpha through the softmax, in place.
void SoftmaxBackward(const float* alpha, int64_t count, float* d) {
  double dot = 0;
  for (int64_t i = 0; i < count; ++i) {
    dot += static_cast<double>(alpha[i]) * d[i];
  }
  for (int64_t i = 0; i < count; ++i) {
    d[i] = alpha[i] * (d[i] - static_cast<float>(dot));
  }
}

Factors FitReference(const FitTarget& target, const FitOptions& options,
                     const PassFn& on_pass) {
  const HalfTarget half = MakeHalfTarget(target);
  const int64_t n = target.experts;
  const int64_t m = options.num_bases;
  const int64_t rows = target.rows;
  const int64_t cols = target.cols;
  const int64_t rank = options.rank;
  const int64_t basis_size = rank * cols;

  Factors state = Start(target, half, options);
  Factors best;
  best.num_bases = state.num_bases;
  best.rank = state.rank;
  best.activation = state.activation;
  Copy(state, &best);
  double best_loss = std::numeric_limits<double>::infinity();
  Adam adam_a(state.a.size());
  Adam adam_bases(state.bases.size());
  Adam adam_alpha(state.alpha.size());

  Buffer<float> alpha(n * m);
  Buffer<float> mix(n * basis_size);  // then its gradient
  Buffer<float> d_a(state.a.size());
  Buffer<float> d_bases(state.bases.size());
  Buffer<float> d_alpha(n * m);
  std::vector<double> losses(n);
  const auto gradient_scale =
      static_cast<float>(2.0 / static_cast<double>(target.weights.size()));

  for (int64_t pass = 1; pass <= options.passes; ++pass) {
    for (int64_t e = 0; e < n; ++e) {
      Softmax(state.alpha.data() + e * m, m, alpha.data() + e * m);
    }
    MixBases(alpha.data(), state.bases.data(), n, m, basis_size, mix.data());
    ParallelFor(n, [&](int64_t e) {
      thread_local Buffer<float> active;
      thread_local Buffer<float> error;
      thread_local Buffer<float> d_active;
      active.Resize(basis_size);
      error.Resize(rows * cols);
      d_active.Resize(basis_size);
      float* mix_e = mix.data() + e * basis_size;
      const float* a_e = state.a.data() + e * rows * rank;
      Kernels().activate(options.activation, mix_e, basis_size, active.data());
      Gemm(Trans::kNo, Trans::kNo, rows, cols, rank, a_e, rank, active.data(),
           cols, 0.0f, error.data(), cols);
      losses[e] = Kernels().subtract(error.data(), 1,
                                     half.scaled.data() + e * rows * cols,
                                     rows * cols, error.data());
      for (float& value : error) value *= gradient_scale;
      Gemm(Trans::kNo, Trans::kYes, rows, rank, cols, error.data(), cols,
           active.data(), cols, 0.0f, d_a.data() + e * rows * rank, rank);
      Gemm(Trans::kYes, Trans::kNo, rank, cols, rows, a_e, rank, error.data(),
           cols, 0.0f, d_active.data(), cols);
      Kernels().activate_backward(options.activation, mix_e, d_active.data(),
                                  basis_size, mix_e);
    });
    double loss = 0;
    for (const double l : losses) loss += l;
    loss /= static_cast<double>(target.weights.size());

    MixBackward(alpha.data(), state.bases.data(), mix.data(), n, m, basis_size,
                0.0f, d_bases.data(), d_alpha.data());
    for (int64_t e = 0; e < n; ++e) {
      SoftmaxBackward(alpha.data() + e * m, m, d_alpha.data() + e * m);
    }
    adam_a.Step(pass, kLearningRate, d_a.data(), state.a.data());
    adam_bases.Step(pass, kLearningRate, d_bases.data(), state.bases.data());
    adam_alpha.Step(pass, kLearningRate, d_alpha.data(), state.alpha.data());
    on_pass(pass, options.passes, loss);

    // As published: judged by the loss before the step, kept after it. The
    // reference fails below 200 passes; here the last state is kept.
    const bool check = pass % kCheckEvery == 0 ||
                       (pass == options.passes && pass < kCheckEvery);
    if (check && loss < best_loss) {
      best_loss = loss;
      Copy(state, &best);
    }
  }
  for (int64_t e = 0; e < n; ++e) {
    float* row = best.alpha.data() + e * m;
    Softmax(row, m, row);
  }
  for (float& value : best.a) value *= half.scale;
  return best;
}

FitParts ReferenceOperations(const FitShape& shape) {
  const auto n = static_cast<double>(shape.experts);
  const auto p = static_cast<double>(shape.rows);
  const auto d = static_cast<double>(shape.cols);
  const auto r = static_cast<double>(shape.rank);
  const auto m = static_cast<double>(shape.num_bases);
  FitParts result;
  // Mixing, and its transpose to bases and alpha; A N, and the gradients to A
  // and N.
  result.pass = 6 * n * m * r * d + 6 * n * p * r * d;
  result.fixed = GroupedSvdOperations(shape);
  return result;
}

FitMemory ReferenceMemory(const FitShape& s, const FitDevice&) {
  const int64_t target = s.experts * s.rows * s.cols;
  const int64_t mix = s.experts * s.rank * s.cols;
  const int64_t bases = s.num_bases * s.rank * s.cols;
  const int64_t a = s.experts * s.rows * s.rank;
  const int64_t threads = Threads();
  // The target and both of HalfTarget; A and bases: state, best, gradient and
  // Adam's two.
  const int64_t all = 3 * target + 5 * (a + bases);
  const int64_t passes =
      mix + threads * (2 * s.rank * s.cols + s.rows * s.cols);
  // The start, before Adam and the rest are there.
  const int64_t start = 3 * target + a + bases + GroupedSvdNumbers(s);
  return {.host = 4 * std::max(all + passes, start)};
}

}  // namespace
}  // namespace internal

const Method kReferenceSolver = {.name = "reference",
                                 .takes_start = true,
                                 .fit = internal::FitReference,
                                 .numbers = NumbersOfFactors,
                                 .operations = internal::ReferenceOperations,
                                 .memory = internal::ReferenceMemory};

}  // namespace mobe
