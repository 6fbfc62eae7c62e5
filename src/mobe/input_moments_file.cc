#include "mobe/input_moments_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <vector>

#include "base/error.h"
#include "fit/diagonal.h"

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
                                   {Role::kGateBases, "moment"},
                                   {Role::kUpBases, "moment"},
                                   {Role::kSharedGate, "moment"},
                                   {Role::kSharedUp, "moment"},
                                   {Role::kSharedDown, "dense_down"},
                                   {Role::kDenseGate, "moment"},
                                   {Role::kDenseUp, "moment"},
                                   {Role::kDenseDown, "dense_down"},
                                   {Role::kEmbedding, "head"},
                                   {Role::kOutput, "head"}};

}  // namespace

std::string InputName(int64_t layer, const char* what) {
  return layer < 0 ? what : fmt::format("model.layers.{}.{}", layer, what);
}

std::string InputName(const ModelConfig& config, const TensorSpec& spec) {
  if (spec.role == Role::kEmbedding && !config.tie_embeddings) return "";
  const auto* const row =
      std::ranges::find(kInputRows, spec.role, &InputRow::role);
  if (row == std::end(kInputRows)) return "";
  return InputName(spec.layer, row->what);
}

InputMoment InputMoments::Of(const TensorSpec& spec) const {
  const std::string name = InputName(config_, spec);
  if (name.empty()) return {};
  const TensorView& tensor = file_.At(name);
  const int64_t inputs = spec.shape.back();
  std::vector<int64_t> shape = {inputs};
  if (inputs <= kMostInputs) shape.push_back(inputs);
  if (tensor.dtype != DType::kF32 || tensor.shape != shape) {
    Fail(ErrorKind::kCorruptFile,
         "{}: tensor {} is {} {}, expected F32 {}; it is no calibration of "
         "this model",
         file_.file().path().string(), name, DTypeName(tensor.dtype),
         tensor.shape, shape);
  }
  Buffer<float> values(tensor.elements());
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  const bool is_full = shape.size() == 2;
  if (!ScaleToMeanOne(is_full ? inputs + 1 : 1, &values)) return {};
  if (is_full) return {std::move(values), {}};
  // A group of inputs that the text left at zero is rounded as well as it can
  // be all the same.
  constexpr float kLeast = 1e-6f;
  for (float& square : values) square = std::max(square, kLeast);
  return {{}, std::move(values)};
}

}  // namespace mobe
