#include "fit/fit.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/device.h"
#include "fit/method.h"
#include "fit/output_solve.h"
#include "fit/whiten.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

void CheckOptions(const FitTarget& target, const FitOptions& options) {
  if (options.num_bases < 1 || options.num_bases > target.experts) {
    Fail(ErrorKind::kUserInput,
         "the number of bases is {}, expected 1 to the number of experts ({})",
         options.num_bases, target.experts);
  }
  if (options.rank < 1 || options.rank > std::min(target.rows, target.cols)) {
    Fail(ErrorKind::kUnsupported,
         "rank {} does not fit expert matrices of {} x {}", options.rank,
         target.rows, target.cols);
  }
  if (options.basis_rank < 0 || options.basis_rank > options.rank) {
    Fail(ErrorKind::kUserInput,
         "the rank of the bases is {}, expected 1 to the rank ({}), or 0 for "
         "whole ones",
         options.basis_rank, options.rank);
  }
  if (options.max_alphas < 0 || options.max_alphas > options.num_bases) {
    Fail(ErrorKind::kUserInput,
         "the number of bases for one expert is {}, expected 1 to the number "
         "of bases ({}), or 0 for all",
         options.max_alphas, options.num_bases);
  }
  if (options.passes < 1) {
    Fail(ErrorKind::kUserInput,
         "the number of passes is {}, expected 1 or more", options.passes);
  }
}

}  // namespace

namespace {

Factors FitOn(FitDevice* device, const FitTarget& target,
              const FitOptions& options, const PassFn& on_pass) {
  Factors factors = options.solver->fit(target, options, on_pass);
  const bool changed = internal::ApplyVariants(target, options, &factors);
  if (!options.solver->leaves_a && !changed) return factors;
  if (factors.activation == Activation::kIdentity) {
    device->SolveA(target, &factors);
    WhitenA(target, &factors);
  }
  RoundShared(options.stored, target.cols, &factors);
  device->SolveA(target, &factors);
  SolveForOutputs(device, target, options.stored, options.check, &factors);
  return factors;
}

}  // namespace

Factors Fit(const FitTarget& target, const FitOptions& options,
            const PassFn& on_pass) {
  CheckOptions(target, options);
  FitDevice& device = DeviceOf(options);
  Factors factors;
  device.Run([&] { factors = FitOn(&device, target, options, on_pass); });
  return factors;
}

void GatherInputs(const RoutedInputs& inputs, const int32_t* tokens,
                  int64_t count, int64_t cols, float* x) {
  for (int64_t i = 0; i < count; ++i) {
    Kernels().from_bfloat16(inputs.x.data() + tokens[i] * cols, cols,
                            x + i * cols);
  }
}

void BuildExpert(const Factors& factors, int64_t expert, int64_t rows,
                 int64_t cols, Buffer<float>* scratch, float* product) {
  BuildExpert(factors, factors.a.data() + expert * rows * factors.rank, expert,
              rows, cols, scratch, product);
}

void BuildExpert(const Factors& shared, const float* a, int64_t expert,
                 int64_t rows, int64_t cols, Buffer<float>* scratch,
                 float* product) {
  internal::MixExpert(shared, expert, cols, scratch);
  Gemm(Trans::kNo, Trans::kNo, rows, cols, shared.rank, a, shared.rank,
       scratch->data(), cols, 0.0f, product, cols);
}

ExpertError MeasureExpert(const float* weights, int64_t matrix_size,
                          float* product) {
  ExpertError error;
  error.difference =
      Kernels().subtract(product, 1, weights, matrix_size, product);
  std::fill_n(product, matrix_size, 0.0f);
  error.weights = Kernels().subtract(weights, 1, product, matrix_size, product);
  return error;
}

namespace {

std::vector<ExpertError> MeasureExperts(const FitTarget& target,
                                        const BuildFn& build) {
  std::vector<ExpertError> experts(target.experts);
  ParallelFor(target.experts, [&](int64_t e) {
    thread_local Buffer<float> product;
    product.Resize(target.matrix_size());
    build(e, product.data());
    experts[e] =
        MeasureExpert(target.matrix(e), target.matrix_size(), product.data());
  });
  return experts;
}

}  // namespace

std::vector<ExpertError> MeasureExperts(const FitTarget& target,
                                        const Factors& factors) {
  return MeasureExperts(target, [&](int64_t expert, float* product) {
    thread_local Buffer<float> scratch;
    BuildExpert(factors, expert, target.rows, target.cols, &scratch, product);
  });
}

FitError ErrorOf(const std::vector<ExpertError>& experts, double scale,
                 int64_t matrix_size) {
  FitError result;
  double error = 0;
  double norm = 0;
  for (size_t e = 0; e < experts.size(); ++e) {
    const auto [difference, weights] = experts[e];
    error += difference;
    norm += weights;
    const double relative =
        weights > 0 ? std::sqrt(difference / weights) : std::sqrt(difference);
    // Nothing is worse than NaN: it is taken, and stays.
    if (std::isnan(result.worst_expert)) continue;
    if (!(relative <= result.worst_expert)) {
      result.worst_expert = relative;
      result.worst_expert_index = static_cast<int64_t>(e);
    }
  }
  const auto count = static_cast<int64_t>(experts.size()) * matrix_size;
  result.scaled_mse = error / (scale * scale) / static_cast<double>(count);
  result.relative = norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
  return result;
}

FitError MeasureFit(const FitTarget& target, const Factors& factors) {
  return ErrorOf(MeasureExperts(target, factors), target.scale,
                 target.matrix_size());
}

FitError MeasureDifference(const FitTarget& target, const BuildFn& build) {
  return ErrorOf(MeasureExperts(target, build), target.scale,
                 target.matrix_size());
}

void RoundTo(DType dtype, Buffer<float>* values) {
  Buffer<uint32_t> stored(values->size());  // room for the widest dtype
  StoreFloats(values->data(), values->size(), dtype, stored.data());
  LoadAsFloats(dtype, stored.data(), values->size(), values->data());
}

namespace internal {

void MixExpert(const Factors& factors, int64_t expert, int64_t cols,
               Buffer<float>* mix) {
  const BasesView bases{DType::kF32, factors.bases.data(), factors.num_bases,
                        factors.rank, cols};
  mix->Resize(factors.rank * cols);
  Kernels().basis_mix(bases, factors.alpha.data() + expert * factors.num_bases,
                      0, mix->size(), factors.activation, mix->data());
}

void MixBases(const float* alpha, const float* bases, int64_t experts,
              int64_t num_bases, int64_t size, float* mix) {
  ParallelRanges(size, kMixGrain, [&](int64_t begin, int64_t end) {
    Gemm(Trans::kNo, Trans::kNo, experts, end - begin, num_bases, alpha,
         num_bases, bases + begin, size, 0.0f, mix + begin, size);
  });
}

void MixBackward(const float* alpha, const float* bases, const float* d_mix,
                 int64_t experts, int64_t num_bases, int64_t size, float beta,
                 float* d_bases, float* d_alpha) {
  // Each range adds to alpha's gradient; the parts are summed in their order.
  const int64_t ranges = (size + kMixGrain - 1) / kMixGrain;
  thread_local Buffer<float> memory;  // of the calling thread
  memory.Resize(ranges * experts * num_bases);
  float* parts = memory.data();
  ParallelRanges(size, kMixGrain, [&](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    Gemm(Trans::kYes, Trans::kNo, num_bases, count, experts, alpha, num_bases,
         d_mix + begin, size, beta, d_bases + begin, size);
    // Transposed: oneDNN multiplies two to three times faster with the fewer
    // rows first, whose stride is no friend of the cache.
    Gemm(Trans::kNo, Trans::kYes, num_bases, experts, count, bases + begin,
         size, d_mix + begin, size, 0.0f,
         parts + begin / kMixGrain * experts * num_bases, experts);
  });
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t i = 0; i < num_bases; ++i) {
      double sum = 0;
      for (int64_t range = 0; range < ranges; ++range) {
        sum += parts[(range * num_bases + i) * experts + e];
      }
      d_alpha[e * num_bases + i] = static_cast<float>(sum);
    }
  }
}

Adam::Adam(int64_t size) : first_(size), second_(size) {
  std::fill(first_.begin(), first_.end(), 0.0f);
  std::fill(second_.begin(), second_.end(), 0.0f);
}

void Adam::Step(int64_t step, double learning_rate, const float* gradient,
                float* value) {
  AdamStep adam;
  const auto t = static_cast<double>(step);
  adam.step_size = static_cast<float>(learning_rate / (1 - std::pow(0.9, t)));
  adam.denominator_scale =
      static_cast<float>(1 / std::sqrt(1 - std::pow(0.999, t)));
  constexpr int64_t kGrain = 1 << 16;
  ParallelRanges(first_.size(), kGrain, [&](int64_t begin, int64_t end) {
    Kernels().adam(adam, gradient + begin, end - begin, value + begin,
                   first_.data() + begin, second_.data() + begin);
  });
}

}  // namespace internal
}  // namespace mobe
