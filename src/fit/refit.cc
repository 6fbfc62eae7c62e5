#include "fit/refit.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/parallel.h"
#include "fit/pass.h"
#include "fit/weighted_solve.h"
#include "fit/whiten.h"

namespace mobe {
namespace {

// Adam's rates: of bases in units of their rows' sizes, and of alpha. Both
// follow a cosine to zero.
constexpr double kBasesRate = 0.15;
constexpr double kAlphaRate = 0.008;

// Bases as rows of mean square 1, and what their rows are multiples of; row r
// of all bases has one size.
class Rows {
 public:
  Rows(const Buffer<float>& bases, int64_t rank, int64_t cols)
      : rank_(rank), cols_(cols), sizes_(rank) {
    units_.CopyFrom(bases);
    const int64_t rows = bases.size() / cols;
    for (int64_t r = 0; r < rank; ++r) {
      double sum = 0;
      for (int64_t row = r; row < rows; row += rank) {
        for (int64_t c = row * cols; c < (row + 1) * cols; ++c) {
          sum += static_cast<double>(bases[c]) * bases[c];
        }
      }
      const int64_t count = rows / rank * cols;
      const double mean = sum / static_cast<double>(count);
      sizes_[r] = mean > 0 ? static_cast<float>(std::sqrt(mean)) : 1.0f;
    }
    Each([&](int64_t i, float size) { units_[i] /= size; });
  }

  float* units() { return units_.data(); }
  void CopyTo(Buffer<float>* bases) const {
    Each([&](int64_t i, float size) { (*bases)[i] = units_[i] * size; });
  }
  // From a gradient to bases to one to units.
  void Scale(Buffer<float>* gradient) const {
    Each([&](int64_t i, float size) { (*gradient)[i] *= size; });
  }

 private:
  template <class Body>
  void Each(const Body& body) const {
    ParallelFor(units_.size() / cols_, [&](int64_t row) {
      const float size = sizes_[row % rank_];
      for (int64_t i = row * cols_; i < (row + 1) * cols_; ++i) body(i, size);
    });
  }

  const int64_t rank_;
  const int64_t cols_;
  Buffer<float> units_;
  Buffer<float> sizes_;  // [rank]
};

}  // namespace

void Refit(const FitTarget& target, int64_t passes, const RoundBasesFn& round,
           const RefitPassFn& on_pass, Factors* factors) {
  if (passes == 0) return;
  FitOptions options;
  options.num_bases = factors->num_bases;
  options.rank = factors->rank;
  const Precision precision = internal::FastestOf(target, options);
  internal::FitPass pass_of(target, options, internal::InputNorm::kExpert);
  Buffer<float> first_bases;
  Buffer<float> first_alpha;
  first_bases.CopyFrom(factors->bases);
  first_alpha.CopyFrom(factors->alpha);
  double first_loss = 0;
  Buffer<float> d_bases(factors->bases.size());
  Buffer<float> d_alpha(factors->alpha.size());
  internal::Adam alpha_adam(factors->alpha.size());
  int64_t pass = 0;
  for (const int64_t end : {passes / 2, passes}) {
    Rows rows(factors->bases, factors->rank, target.cols);
    internal::Adam bases_adam(factors->bases.size());
    for (int64_t step = 1; pass < end; ++step) {
      const double done =
          static_cast<double>(pass) / static_cast<double>(passes);
      const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * done));
      on_pass(++pass, passes);
      round(&factors->bases);
      const double loss = pass_of.Differentiate(precision, *factors,
                                                d_bases.data(), d_alpha.data());
      if (pass == 1) first_loss = loss;
      rows.Scale(&d_bases);
      bases_adam.Step(step, kBasesRate * cosine, d_bases.data(), rows.units());
      // Bases that an expert does not use stay so.
      for (int64_t i = 0; i < d_alpha.size(); ++i) {
        if (factors->alpha[i] == 0) d_alpha[i] = 0;
      }
      alpha_adam.Step(pass, kAlphaRate * cosine, d_alpha.data(),
                      factors->alpha.data());
      rows.CopyTo(&factors->bases);
    }
    if (pass == passes || factors->activation != Activation::kIdentity) {
      continue;
    }
    SolveWeightedA(target, factors);
    WhitenA(target, factors);
  }
  Buffer<float> moved;
  moved.CopyFrom(factors->bases);
  round(&factors->bases);
  // False for NaN, too.
  if (pass_of.Measure(Precision::kFloat32, *factors) < first_loss) {
    factors->bases = std::move(moved);
    return;
  }
  factors->bases = std::move(first_bases);
  factors->alpha = std::move(first_alpha);
}

int64_t RefitBytes(const FitShape& s) {
  if (s.pairs == 0 || s.basis_rank > 0) return 0;
  const int64_t target = s.rows * s.cols;
  const int64_t basis = s.rank * s.cols;
  const int64_t square = s.cols * s.cols;
  const int64_t roots = 4 * s.experts * square;
  // The target, and weighed; roots, or one in each thread; the layer's moment.
  int64_t bytes = 8 * s.experts * target + 4 * square;
  bytes += roots <= internal::kMostRoots ? roots : square * 4 * Threads();
  // Bases as they were, as they are, rounded and as units; their gradient, and
  // Adam's means.
  bytes += 28 * s.num_bases * basis;
  // The mix of a chunk, and what one thread works on (FitPass::Scratch): half
  // of a root, and what makes an expert's moment, beside them.
  bytes += 4 * internal::ChunkOf(s.experts) * basis;
  bytes += Threads() * (10 * basis + 6 * target + 6 * s.rank * s.rows +
                        6 * square + 4 * kGatherTokens * s.cols);
  return bytes;
}

}  // namespace mobe
