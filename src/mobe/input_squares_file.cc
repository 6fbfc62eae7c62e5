#include "mobe/input_squares_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>

#include "base/error.h"

namespace mobe {
namespace {

struct InputRow {
  Role role;
  const char* what;
};
constexpr InputRow kInputRows[] = {{Role::kQuery, "attention"},
                                   {Role::kKey, "attention"},
                                   {Role::kValue, "attention"},
                                   {Role::kQueryKeyValue, "attention"},
                                   {Role::kQueryDown, "attention"},
                                   {Role::kLatentDown, "attention"},
                                   {Role::kQueryUp, "query"},
                                   {Role::kLatentUp, "latent"},
                                   {Role::kDeltaQueryKeyValue, "attention"},
                                   {Role::kDeltaGate, "attention"},
                                   {Role::kDeltaInputs, "attention"},
                                   {Role::kAttentionOutput, "context"},
                                   {Role::kDeltaOutput, "context"},
                                   {Role::kExpertGate, "mlp"},
                                   {Role::kExpertUp, "mlp"},
                                   {Role::kExpertDown, "down"},
                                   {Role::kSharedGate, "mlp"},
                                   {Role::kSharedUp, "mlp"},
                                   {Role::kSharedDown, "dense_down"},
                                   {Role::kDenseGate, "mlp"},
                                   {Role::kDenseUp, "mlp"},
                                   {Role::kDenseDown, "dense_down"},
                                   {Role::kOutput, "head"}};

}  // namespace

std::string InputName(int64_t layer, const char* what, int64_t expert) {
  return fmt::format("{}{}{}",
                     layer < 0 ? "" : fmt::format("model.layers.{}.", layer),
                     what, expert < 0 ? "" : fmt::format(".{}", expert));
}

std::string InputName(const OpenedModel& model, const TensorSpec& spec) {
  const auto* const row =
      std::ranges::find(kInputRows, spec.role, &InputRow::role);
  if (row == std::end(kInputRows) || spec.shape.size() != 2) return "";
  const MatrixKind* kind = spec.expert < 0 ? nullptr : KindOf(spec.role);
  if (kind == nullptr) return InputName(spec.layer, row->what);
  const bool factored = model.Factored(spec.layer, *kind) != nullptr;
  if (factored && kind->transposed) return "";
  if (!factored && !kind->transposed) return InputName(spec.layer, row->what);
  return InputName(spec.layer, kind->name, spec.expert);
}

Buffer<float> InputSquares::ImportanceOf(const TensorSpec& spec) const {
  const std::string name = InputName(model_, spec);
  if (name.empty()) return {};
  const TensorView& tensor = file_.At(name);
  const std::vector<int64_t> shape = {spec.shape[1]};
  if (tensor.dtype != DType::kF32 || tensor.shape != shape) {
    Fail(ErrorKind::kCorruptFile,
         "{}: tensor {} is {} {}, expected F32 {}; it is no calibration of "
         "this model",
         file_.file().path().string(), name, DTypeName(tensor.dtype),
         tensor.shape, shape);
  }
  Buffer<float> importance(spec.shape[1]);
  std::memcpy(importance.data(), tensor.data.data(), tensor.data.size());
  double mean = 0;
  for (const float square : importance) {
    mean += square / static_cast<double>(importance.size());
  }
  if (!(mean > 0) || !std::isfinite(mean)) return {};
  // A group of inputs that the text left at zero is rounded as well as it can
  // be all the same.
  constexpr double kLeast = 1e-6;
  for (float& square : importance) {
    square = static_cast<float>(std::max(square / mean, kLeast));
  }
  return importance;
}

}  // namespace mobe
