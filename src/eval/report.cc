#include "eval/report.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "mobe/measure.h"
#include "mobe/packed_model.h"
#include "mobe/tensors.h"

namespace mobe {
namespace {

// Fails unless the original has the sizes of the factored model.
void CheckOriginal(const OpenedModel& model, const OpenedModel& original) {
  const std::string folder = original.checkpoint.folder().string();
  if (original.mobe) {
    Fail(ErrorKind::kUserInput,
         "{}: a factored model; --original wants the original", folder);
  }
  const std::pair<const char*, int64_t ModelConfig::*> sizes[] = {
      {"layers", &ModelConfig::num_layers},
      {"hidden size", &ModelConfig::hidden_size},
      {"experts", &ModelConfig::num_experts},
      {"expert size", &ModelConfig::expert_size},
      {"vocabulary", &ModelConfig::vocab_size}};
  for (const auto& [what, size] : sizes) {
    if (original.config.*size == model.config.*size) continue;
    Fail(ErrorKind::kUserInput, "{}: not the original of {}: {} {}, not {}",
         folder, model.checkpoint.folder().string(), what,
         original.config.*size, model.config.*size);
  }
}

// LAPACK and the charts want numbers of bases, whole or low-rank, and alpha.
void CheckFactors(const OpenedModel& model, int64_t layer,
                  const MatrixKind& kind) {
  for (const TensorSpec& spec : model.tensors) {
    const bool shared = kind.Has(spec.role) && spec.role != kind.expert;
    if (spec.layer != layer || !shared) continue;
    const TensorView& tensor = model.checkpoint.At(spec.name);
    if (ScanTensor(tensor).first_not_finite < 0) continue;
    Fail(ErrorKind::kCorruptFile,
         "{}: tensor {} holds values that are not finite; compress the model "
         "again",
         model.checkpoint.FileOf(tensor), tensor.name);
  }
}

std::vector<int64_t> EvenlySpaced(const std::vector<int64_t>& layers) {
  if (layers.size() <= kDetailedLayers) return layers;
  std::vector<int64_t> chosen;
  for (size_t i = 0; i < kDetailedLayers; ++i) {
    chosen.push_back(layers[i * (layers.size() - 1) / (kDetailedLayers - 1)]);
  }
  return chosen;
}

// Alpha of a group into that of all experts, which has zeros for the bases of
// other groups.
void PutAlpha(const Factors& shared, const ExpertGroup& group,
              FactoredMatrix* matrix) {
  const int64_t in_group = shared.num_bases;
  const int64_t first_basis = group.first / group.count * in_group;
  for (int64_t e = 0; e < group.count; ++e) {
    std::copy_n(shared.alpha.data() + e * in_group, in_group,
                matrix->alpha.data() + (group.first + e) * matrix->num_bases +
                    first_basis);
  }
}

double BasesUsed(const FactoredMatrix& matrix) {
  double total = 0;
  for (int64_t e = 0; e < matrix.experts; ++e) {
    double sum = 0;
    double squares = 0;
    for (int64_t i = 0; i < matrix.num_bases; ++i) {
      const double alpha = matrix.alpha[e * matrix.num_bases + i];
      sum += std::fabs(alpha);
      squares += alpha * alpha;
    }
    if (squares > 0) total += sum * sum / squares;
  }
  return total / static_cast<double>(matrix.experts);
}

// Of the rows of all experts' matrices.
Energy EnergyOfOriginal(const OpenedModel& original, int64_t layer,
                        const MatrixKind& kind) {
  const int64_t rows = original.config.expert_size;
  const int64_t cols = original.config.hidden_size;
  Gram gram(cols);
  Buffer<float> matrix(rows * cols);
  for (int64_t e = 0; e < original.config.num_experts; ++e) {
    CheckFinite(original, original.At(kind.expert, layer, e));
    LoadMatrix(original, layer, kind, e, matrix.data());
    gram.Add(matrix.data(), rows);
  }
  return gram.SingularValueEnergy();
}

// What the recipe, if there is one, says of a matrix; no more than its name
// else.
RecipeMatrix FromRecipe(const std::optional<Recipe>& recipe, int64_t layer,
                        const MatrixKind& kind) {
  if (recipe) {
    for (const RecipeMatrix& matrix : recipe->matrices) {
      if (matrix.layer == layer && matrix.kind == kind.name) return matrix;
    }
  }
  RecipeMatrix matrix;
  matrix.layer = layer;
  matrix.kind = kind.name;
  return matrix;
}

// Of the packed matrices that the original has as they are.
std::vector<PackedPart> MeasurePacked(const OpenedModel& model,
                                      const OpenedModel& original) {
  std::vector<PackedPart> parts;
  for (const TensorSpec& spec : model.tensors) {
    const TensorView& tensor = model.checkpoint.At(spec.name);
    const MatrixKind* kind = KindOf(spec.role);
    const bool factored =
        kind != nullptr && model.Factored(spec.layer, *kind) != nullptr;
    if (tensor.packed == nullptr || factored) continue;
    const TensorView& before = original.checkpoint.At(spec.name);
    AddPackedPart(PackedPartOf(spec, *tensor.packed, before.bytes(),
                               MeasureLoss(before, tensor)),
                  &parts);
    model.checkpoint.Evict(tensor);
    original.checkpoint.Evict(before);
  }
  return parts;
}

}  // namespace

ReportData GatherReport(const OpenedModel& model, const OpenedModel* original,
                        const ProgressFn& progress) {
  const bool packed = HasPacked(model);
  if (!model.mobe && !packed) {
    Fail(ErrorKind::kUserInput,
         "{}: neither a factored nor a quantised model; report shows one that "
         "compress or quantize wrote",
         model.checkpoint.folder().string());
  }
  if (original != nullptr) CheckOriginal(model, *original);
  ReportData data;
  data.name = PublicName(model.checkpoint.folder());
  data.family = model.family->model_type;
  data.format = model.mobe.value_or(MobeFormat());
  data.parameters_in =
      CountParts(model, ListTensors(*model.family, model.config));
  data.parameters_out = CountParts(model, model.tensors);
  data.bytes_out = model.checkpoint.bytes();
  data.recipe = ReadRecipe(model.checkpoint.folder());
  if (data.recipe) {
    data.errors = data.recipe->matrices;
    data.packed = data.recipe->packed;
    data.bytes_in = data.recipe->bytes_in;
  }
  if (original != nullptr) {
    data.bytes_in = original->checkpoint.bytes();
    // Quantising came after what the recipe says of each matrix.
    data.measured = packed || !data.recipe;
    if (data.measured) data.errors.clear();
    if (data.packed.empty()) data.packed = MeasurePacked(model, *original);
  }
  data.detailed = EvenlySpaced(data.format.Layers());

  const int64_t cols = model.config.hidden_size;
  const auto jobs = static_cast<double>(data.format.factors.size());
  for (const FactorShape& shape : data.format.factors) {
    const int64_t layer = shape.layer;
    const MatrixKind& kind = *shape.kind;
    const bool detailed = std::ranges::count(data.detailed, layer) > 0;
    CheckFactors(model, layer, kind);
    FactoredMatrix matrix;
    matrix.layer = layer;
    matrix.kind = kind.name;
    matrix.experts = model.config.num_experts;
    matrix.num_bases = shape.num_bases;
    matrix.groups = shape.groups;
    matrix.alpha.resize(matrix.experts * matrix.num_bases);
    Gram gram(cols);
    for (const ExpertGroup& group : GroupsOf(model.config, shape)) {
      const Factors shared = LoadShared(model, layer, kind, group);
      PutAlpha(shared, group, &matrix);
      if (!detailed) continue;
      gram.Add(shared.bases.data(), shared.num_bases * shared.rank);
    }
    matrix.bases_used = BasesUsed(matrix);
    if (detailed) matrix.bases = gram.SingularValueEnergy();
    if (original != nullptr && detailed) {
      matrix.original = EnergyOfOriginal(*original, layer, kind);
    }
    if (data.measured) {
      RecipeMatrix measured = FromRecipe(data.recipe, layer, kind);
      measured.error = MeasureMatrices(*original, model, layer, kind);
      data.errors.push_back(std::move(measured));
    }
    data.matrices.push_back(std::move(matrix));
    progress({static_cast<double>(data.matrices.size()) / jobs,
              fmt::format("layer {} {}", layer, kind.name)});
  }
  return data;
}

}  // namespace mobe
