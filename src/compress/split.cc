#include "compress/split.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "compress/split_curve.h"
#include "fit/weighted_solve.h"
#include "mobe/moments_file.h"
#include "mobe/sizes.h"
#include "mobe/tensors.h"

namespace mobe {
namespace {

// Ranks to choose from, as parts of the full one, in steps that are whole
// vectors of the kernels where the matrices are large.
constexpr double kLeastRank = 0.5;
constexpr int64_t kRankSteps = 8;
// Of the experts' number: beyond that the plain matrices are smaller.
constexpr double kMostBases = 0.625;

int64_t WidthOf(const ModelConfig& config) {
  return std::min(config.expert_size, config.hidden_size);
}

// The shape of the short fit of each layer and kind: it is in the middle of
// what is chosen.
CurvePoint LayerProbe(const ModelConfig& config) {
  return {std::max<int64_t>(config.num_experts / 4, 1), WidthOf(config), 0};
}

// Passes of each probe of the error curve, and of the short fit of each layer
// and kind, whatever the budget: the solver's step rises for 20 passes, and
// fits of less than that rank the shapes wrongly. For 6 layers it comes to an
// eighth of 500 passes of each matrix, for 48 layers to a twentieth.
constexpr int64_t kCurvePasses = 50;
constexpr int64_t kLayerPasses = 16;
// What a long fit makes of the error of a short one: error^1.1. Measured on the
// bundled model, 500 passes to 50: 1.07 with 2 bases, 1.12 with 8.
constexpr double kLonger = 1.1;

void CheckStop(const CompressOptions& options) {
  if (options.stop && options.stop()) {
    throw Stopped(
        "stopped while choosing the split, which begins anew; run the same "
        "command");
  }
}

class Prober {
 public:
  Prober(const OpenedModel& model, const CompressOptions& options,
         const std::filesystem::path& moments)
      : model_(model), options_(options), moments_(moments) {}

  // The matrices that a short fit makes. Keeps its error.
  Buffer<BFloat16> Replace(int64_t layer, const MatrixKind& kind) {
    const FitTarget target = Load(layer, kind);
    const Factors factors =
        RunFit(target, LayerProbe(model_.config), kLayerPasses);
    errors_[{layer, kind.name}] = Error(target, factors);
    Buffer<BFloat16> matrices(target.weights.size());
    ParallelFor(target.experts, [&](int64_t e) {
      thread_local Buffer<float> scratch;
      thread_local Buffer<float> product;
      thread_local Buffer<float> turned;
      product.Resize(target.matrix_size());
      BuildExpert(factors, e, target.rows, target.cols, &scratch,
                  product.data());
      const float* values = product.data();
      if (kind.transposed) {
        turned.Resize(target.matrix_size());
        Transpose(product.data(), target.rows, target.cols, turned.data());
        values = turned.data();
      }
      Kernels().to_bfloat16(values, target.matrix_size(),
                            matrices.data() + e * target.matrix_size());
    });
    return matrices;
  }

  ErrorCurve Curve(int64_t layer, const MatrixKind& kind,
                   const std::function<void()>& progress) {
    const FitTarget target = Load(layer, kind);
    auto probes = ErrorCurve::Probes(target.experts, WidthOf(model_.config));
    for (CurvePoint& probe : probes) {
      progress();
      probe.error =
          std::pow(Error(target, RunFit(target, probe, kCurvePasses)), kLonger);
    }
    return ErrorCurve(probes);
  }

  // Of the short fit.
  double ErrorOf(int64_t layer, const MatrixKind& kind) const {
    return errors_.at({layer, kind.name});
  }

 private:
  FitTarget Load(int64_t layer, const MatrixKind& kind) const {
    FitTarget target = LoadTarget(model_, layer, kind);
    if (!moments_.empty()) LoadMoments(moments_, layer, kind, &target);
    for (int64_t e = 0; e < target.experts; ++e) {
      model_.checkpoint.Evict(model_.At(kind.expert, layer, e));
    }
    return target;
  }

  Factors RunFit(const FitTarget& target, const CurvePoint& probe,
                 int64_t passes) const {
    FitOptions fit;
    fit.num_bases = probe.num_bases;
    fit.rank = probe.rank;
    fit.activation = options_.activation;
    fit.seed = options_.seed;
    fit.device = options_.devices.front();
    fit.passes = passes;
    return Fit(target, fit,
               [&](int64_t, int64_t, double) { CheckStop(options_); });
  }

  // Squared and relative, in the norm that the fit serves.
  static double Error(const FitTarget& target, const Factors& factors) {
    if (target.moment.size() > 0) return MeasureWeighted(target, factors);
    const double relative = MeasureFit(target, factors).relative;
    return relative * relative;
  }

  const OpenedModel& model_;
  const CompressOptions& options_;
  const std::filesystem::path& moments_;
  std::map<std::pair<int64_t, std::string>, double> errors_;
};

int64_t RankAt(const ModelConfig& config, int64_t step) {
  const double part = kLeastRank + (1 - kLeastRank) *
                                       static_cast<double>(step) /
                                       static_cast<double>(kRankSteps);
  return std::max<int64_t>(
      std::llround(part * static_cast<double>(WidthOf(config))), 1);
}

int64_t LeastBases(const ModelConfig& config, const CompressOptions& options) {
  const auto probes = ErrorCurve::Probes(config.num_experts, WidthOf(config));
  return std::max(options.max_alphas, probes.front().num_bases);
}

// Numbers that the factored kinds of all layers may take. Fails where sizes
// alone tell that no choice gives the ratio: before anything is measured.
int64_t BudgetOf(const ModelConfig& config, const CompressOptions& options,
                 size_t layers) {
  const int64_t whole = MatricesSize(config);
  FactorShape smallest;
  smallest.rank = RankAt(config, 0);
  smallest.num_bases = LeastBases(config, options);
  const auto factored = static_cast<int64_t>(options.kinds.size());
  const int64_t least = std::min(whole, FactorsSize(config, smallest));
  const auto kept =
      static_cast<int64_t>(3 * static_cast<double>(whole) * options.ratio);
  const int64_t each = kept - (3 - factored) * whole;
  if (each < factored * least || each >= factored * whole) {
    Fail(
        ErrorKind::kUserInput,
        "--ratio {}: with these kinds an automatic split needs at least {:.3f} "
        "and less than 1",
        options.ratio,
        static_cast<double>((3 - factored) * whole + factored * least) /
            static_cast<double>(3 * whole));
  }
  return static_cast<int64_t>(static_cast<double>(layers) *
                              (3 * static_cast<double>(whole) * options.ratio -
                               static_cast<double>((3 - factored) * whole)));
}

// All shapes that are smaller than the plain matrices, and these.
std::vector<SplitChoice> ListChoices(const ModelConfig& config,
                                     const CompressOptions& options,
                                     const ErrorCurve& curve, double damage) {
  const int64_t whole = MatricesSize(config);
  std::vector<SplitChoice> choices = {{0, 0, whole, 0}};
  const auto most = std::max<int64_t>(
      std::llround(kMostBases * static_cast<double>(config.num_experts)), 1);
  int64_t last_rank = 0;
  for (int64_t step = 0; step <= kRankSteps; ++step) {
    const int64_t rank = RankAt(config, step);
    if (rank == last_rank) continue;
    last_rank = rank;
    FactorShape shape;
    shape.rank = rank;
    for (shape.num_bases = LeastBases(config, options); shape.num_bases <= most;
         ++shape.num_bases) {
      const int64_t size = FactorsSize(config, shape);
      if (size >= whole) break;
      choices.push_back({shape.num_bases, rank, size,
                         damage * curve.At(shape.num_bases, rank)});
    }
  }
  return choices;
}

}  // namespace

std::vector<FactorShape> ChooseShapes(const OpenedModel& model,
                                      const CompressOptions& options,
                                      const std::filesystem::path& moments,
                                      const DamageFn& measure_damage,
                                      const ProgressFn& progress) {
  const ModelConfig& config = model.config;
  const std::vector<int64_t> layers = LayersToFactor(config, options);
  std::vector<LayerKind> matrices;
  for (const int64_t layer : layers) {
    for (const MatrixKind& kind : kMatrixKinds) {
      if (std::ranges::count(options.kinds, &kind) == 0) continue;
      matrices.push_back({layer, &kind});
    }
  }
  const int64_t budget = BudgetOf(config, options, layers.size());
  const ProgressFn watched = [&](const ProgressEvent& event) {
    CheckStop(options);
    progress(event);
  };
  Prober prober(model, options, moments);
  const std::vector<double> damages = measure_damage(
      matrices,
      [&](int64_t layer, const MatrixKind& kind) {
        return prober.Replace(layer, kind);
      },
      watched);

  const int64_t middle = layers[layers.size() / 2];
  std::map<const MatrixKind*, ErrorCurve> curves;
  for (const MatrixKind* kind : options.kinds) {
    const auto report = [&] {
      watched({0, fmt::format("error curve of {}", kind->name)});
    };
    curves.emplace(kind, prober.Curve(middle, *kind, report));
  }
  std::vector<std::vector<SplitChoice>> choices;
  for (size_t i = 0; i < matrices.size(); ++i) {
    // Layers differ by a factor in the error of one shape: that is in both
    // damages[i] and ErrorOf its layer.
    const MatrixKind& kind = *matrices[i].kind;
    const double of_middle = std::max(prober.ErrorOf(middle, kind), 1e-12);
    choices.push_back(
        ListChoices(config, options, curves.at(&kind), damages[i] / of_middle));
  }
  const std::vector<size_t> chosen = AllocateSplit(choices, budget);
  std::vector<FactorShape> shapes;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const SplitChoice& choice = choices[i][chosen[i]];
    if (choice.num_bases == 0) continue;
    shapes.push_back({matrices[i].layer, matrices[i].kind, choice.num_bases,
                      choice.rank, 0});
  }
  return shapes;
}

}  // namespace mobe
