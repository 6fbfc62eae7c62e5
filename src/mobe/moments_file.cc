#include "mobe/moments_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "fit/diagonal.h"
#include "io/safetensors.h"

namespace mobe {
namespace {

const TensorView& At(const SafetensorsFile& file, const std::string& name,
                     DType dtype, const std::vector<int64_t>& shape) {
  const TensorView& tensor = file.At(name);
  if (tensor.shape != shape || tensor.dtype != dtype) {
    Fail(ErrorKind::kCorruptFile,
         "{}: tensor {} is {} {}, expected {} {}; it is no calibration of this "
         "model",
         file.file().path().string(), name, DTypeName(tensor.dtype),
         tensor.shape, DTypeName(dtype), shape);
  }
  return tensor;
}

// The values of a tensor whose elements have the size of T.
template <class T>
Buffer<T> Read(const SafetensorsFile& file, const std::string& name,
               DType dtype, const std::vector<int64_t>& shape) {
  const TensorView& tensor = At(file, name, dtype, shape);
  Buffer<T> values(tensor.elements());
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

// The pairs of `picks` and `weights` [tokens, picks], sorted by expert.
void SortPairs(const SafetensorsFile& file, int64_t experts,
               const Buffer<int32_t>& picks, const Buffer<float>& weights,
               int64_t picks_per_token, RoutedInputs* inputs) {
  inputs->starts.assign(static_cast<size_t>(experts) + 1, 0);
  for (const int32_t e : picks) {
    if (e < 0 || e >= experts) {
      Fail(ErrorKind::kCorruptFile,
           "{}: a token goes to expert {}, expected 0 to {}; it is no "
           "calibration of this model",
           file.file().path().string(), e, experts - 1);
    }
    ++inputs->starts[static_cast<size_t>(e) + 1];
  }
  std::partial_sum(inputs->starts.begin(), inputs->starts.end(),
                   inputs->starts.begin());
  inputs->tokens.resize(static_cast<size_t>(picks.size()));
  inputs->weights.resize(static_cast<size_t>(picks.size()));
  std::vector<int64_t> next = inputs->starts;
  for (int64_t i = 0; i < picks.size(); ++i) {
    const auto at = static_cast<size_t>(next[static_cast<size_t>(picks[i])]++);
    inputs->tokens[at] = static_cast<int32_t>(i / picks_per_token);
    inputs->weights[at] = weights[i];
  }
}

// Leaves the pairs of the experts of a group.
void KeepGroup(const ExpertGroup& group, RoutedInputs* inputs) {
  const auto starts = inputs->starts.begin() + group.first;
  inputs->starts = {starts, starts + group.count + 1};
  const int64_t begin = inputs->starts.front();
  const int64_t end = inputs->starts.back();
  for (int64_t& start : inputs->starts) start -= begin;
  const auto keep = [&](auto* pairs) {
    *pairs = {pairs->begin() + begin, pairs->begin() + end};
  };
  keep(&inputs->tokens);
  keep(&inputs->weights);
}

}  // namespace

MomentsHeader ReadMomentsHeader(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const Metadata& metadata = file.metadata();
  MomentsHeader header;
  const auto text = [&](const char* key) {
    const auto found = metadata.find(key);
    return found == metadata.end() ? std::string() : found->second;
  };
  const auto number = [&](const char* key, int64_t* value) {
    const std::string digits = text(key);
    std::from_chars(digits.data(), digits.data() + digits.size(), *value);
  };
  number("tokens", &header.tokens);
  number("context", &header.context);
  header.hash = text("hash");
  header.model = text("model");
  if (header.tokens > 0 && !header.hash.empty() && !header.model.empty()) {
    return header;
  }
  Fail(ErrorKind::kCorruptFile,
       "{}: not a file of mobe calibrate, or one of an older mobe; make it "
       "again",
       path.string());
}

std::vector<int32_t> LoadMomentsTokens(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const TensorView* tensor = file.Find("tokens");
  if (tensor == nullptr || tensor->dtype != DType::kI32) {
    Fail(ErrorKind::kMissing,
         "{}: holds no token ids, as that of an older mobe; remove it and run "
         "mobe calibrate again",
         path.string());
  }
  std::vector<int32_t> ids(static_cast<size_t>(tensor->elements()));
  std::memcpy(ids.data(), tensor->data.data(), tensor->data.size());
  return ids;
}

std::string MomentsName(int64_t layer, const char* what) {
  return fmt::format("model.layers.{}.{}", layer, what);
}

void LoadMoments(const std::filesystem::path& path, int64_t layer,
                 const MatrixKind& kind, FitTarget* target) {
  LoadMoments(path, layer, kind, target->experts, {0, target->experts}, target);
}

void LoadMoments(const std::filesystem::path& path, int64_t layer,
                 const MatrixKind& kind, int64_t experts,
                 const ExpertGroup& group, FitTarget* target) {
  if (kind.transposed) return;
  const SafetensorsFile file(path);
  const int64_t d = target->cols;
  target->moment =
      Read<float>(file, MomentsName(layer, "moment"), DType::kF32, {d, d});
  ScaleToMeanOne(d + 1, &target->moment);
  Buffer<float> importance = Read<float>(file, MomentsName(layer, "importance"),
                                         DType::kF32, {experts});
  ScaleToMeanOne(1, &importance);
  target->importance.Resize(group.count);
  for (int64_t e = 0; e < group.count; ++e) {
    target->importance[e] =
        std::max(importance[group.first + e], kLeastImportance);
  }
  const std::string picks_name = MomentsName(layer, "picks");
  const std::vector<int64_t> shape = file.At(picks_name).shape;
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1) {
    Fail(
        ErrorKind::kCorruptFile,
        "{}: tensor {} has shape {}, expected [tokens, experts of each]; it is "
        "no calibration of this model",
        path.string(), picks_name, shape);
  }
  target->inputs.x = Read<BFloat16>(file, MomentsName(layer, "inputs"),
                                    DType::kBF16, {shape[0], d});
  SortPairs(
      file, experts, Read<int32_t>(file, picks_name, DType::kI32, shape),
      Read<float>(file, MomentsName(layer, "pick_weights"), DType::kF32, shape),
      shape[1], &target->inputs);
  KeepGroup(group, &target->inputs);
}

Buffer<float> LoadDownMoment(const std::filesystem::path& path, int64_t layer,
                             int64_t size) {
  const SafetensorsFile file(path);
  Buffer<float> moment = Read<float>(file, MomentsName(layer, "down_moment"),
                                     DType::kF32, {size, size});
  ScaleToMeanOne(size + 1, &moment);
  return moment;
}

}  // namespace mobe
