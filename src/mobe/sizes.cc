#include "mobe/sizes.h"

#include "base/error.h"
#include "fit/method.h"

namespace mobe {
namespace {

int64_t& PartOf(Role role, PartSizes* sizes) {
  switch (role) {
    case Role::kEmbedding:
    case Role::kOutput:
      return sizes->embedding;
    case Role::kQuery:
    case Role::kKey:
    case Role::kValue:
    case Role::kAttentionOutput:
    case Role::kQueryBias:
    case Role::kKeyBias:
    case Role::kValueBias:
    case Role::kAttentionOutputBias:
    case Role::kQueryKeyValue:
    case Role::kQueryKeyValueBias:
    case Role::kQueryDown:
    case Role::kQueryUp:
    case Role::kLatentDown:
    case Role::kLatentUp:
    case Role::kDeltaQueryKeyValue:
    case Role::kDeltaGate:
    case Role::kDeltaBeta:
    case Role::kDeltaDecay:
    case Role::kDeltaInputs:
    case Role::kDeltaRates:
    case Role::kDeltaConvolution:
    case Role::kDeltaDecayBias:
    case Role::kDeltaDecayLog:
    case Role::kDeltaOutput:
      return sizes->attention;
    case Role::kFinalNorm:
    case Role::kAttentionNorm:
    case Role::kQueryNorm:
    case Role::kKeyNorm:
    case Role::kQueryDownNorm:
    case Role::kLatentNorm:
    case Role::kDeltaNorm:
    case Role::kMlpNorm:
      return sizes->norms;
    case Role::kRouter:
    case Role::kRouterBias:
      return sizes->router;
    case Role::kExpertGate:
    case Role::kExpertUp:
    case Role::kExpertDown:
    case Role::kGateBases:
    case Role::kGateLeft:
    case Role::kGateRight:
    case Role::kGateAlpha:
    case Role::kUpBases:
    case Role::kUpLeft:
    case Role::kUpRight:
    case Role::kUpAlpha:
    case Role::kDownBases:
    case Role::kDownLeft:
    case Role::kDownRight:
    case Role::kDownAlpha:
      return sizes->experts;
    case Role::kSharedGate:
    case Role::kSharedUp:
    case Role::kSharedDown:
    case Role::kSharedScale:
    case Role::kDenseGate:
    case Role::kDenseUp:
    case Role::kDenseDown:
      return sizes->dense;
  }
  Fail(ErrorKind::kInternal, "role {} belongs to no part",
       static_cast<int>(role));
}

int64_t ElementsOf(const Checkpoint& checkpoint) {
  int64_t elements = 0;
  for (const TensorView* tensor : checkpoint.tensors()) {
    if (tensor->scaled == nullptr) elements += tensor->elements();
  }
  return elements;
}

}  // namespace

PartSizes CountParts(const OpenedModel& model,
                     const std::vector<TensorSpec>& tensors) {
  PartSizes sizes;
  if (!model.family->runs) {
    sizes.other = ElementsOf(model.checkpoint);
    for (const TensorSpec& spec : model.tensors) {
      sizes.other -= model.checkpoint.At(spec.name).elements();
    }
  }
  for (const TensorSpec& spec : tensors) {
    int64_t elements = 1;
    for (const int64_t dim : spec.shape) elements *= dim;
    PartOf(spec.role, &sizes) += elements;
  }
  return sizes;
}

Ratios RatiosOf(const PartSizes& stored, const PartSizes& plain) {
  const auto ratio = [](int64_t a, int64_t b) {
    return b == 0 ? 1.0 : static_cast<double>(a) / static_cast<double>(b);
  };
  return {ratio(stored.experts, plain.experts),
          ratio(stored.total(), plain.total())};
}

int64_t MatricesSize(const ModelConfig& config) {
  return config.num_experts * config.expert_size * config.hidden_size;
}

int64_t FactorsSize(const ModelConfig& config, const FactorShape& shape) {
  return shape.groups *
         NumbersOfFactors({config.num_experts / shape.groups,
                           config.expert_size, config.hidden_size, shape.rank,
                           shape.num_bases / shape.groups, shape.basis_rank});
}

int64_t BasesForRatio(const ModelConfig& config, double ratio,
                      int64_t num_kinds, FactorShape shape) {
  const auto kept = [&](int64_t num_bases) {
    shape.num_bases = num_bases;
    const int64_t size = num_kinds * FactorsSize(config, shape) +
                         (3 - num_kinds) * MatricesSize(config);
    return static_cast<double>(size) /
           static_cast<double>(3 * MatricesSize(config));
  };
  // Sizes rarely meet a round ratio exactly: alpha alone, a thousandth of the
  // whole, must not cost a basis.
  constexpr double kSlack = 0.002;
  int64_t best = 0;
  for (int64_t m = shape.groups;
       m <= config.num_experts && kept(m) <= ratio + kSlack;
       m += shape.groups) {
    best = m;
  }
  if (best == 0) {
    Fail(ErrorKind::kUserInput,
         "ratio {} can't be met: this model's expert weights can be reduced to "
         "{:.3f} ({}) and upwards",
         ratio, kept(shape.groups),
         shape.groups == 1 ? "1 basis" : fmt::format("{} bases", shape.groups));
  }
  return best;
}

}  // namespace mobe
