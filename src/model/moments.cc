#include "model/moments.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "mobe/model_identity.h"
#include "mobe/moments_file.h"
#include "model/input_moments.h"
#include "model/layer_walk.h"
#include "model/moment_sum.h"

namespace mobe {
namespace {

template <class T>
std::span<const std::byte> BytesOf(const T& values) {
  return std::as_bytes(
      std::span(values.data(), static_cast<size_t>(values.size())));
}

// What one layer's experts read. The inputs themselves go to the file as they
// come.
struct LayerMoments {
  MomentSum input;
  MomentSum inner;
  std::vector<double> importance;  // [experts]: sums of squared weights
  std::vector<int32_t> picks;      // [tokens, picks]
  std::vector<float> pick_weights;
  std::function<void(std::span<const std::byte>)> write_inputs;

  explicit LayerMoments(const ModelConfig& c)
      : input(c.hidden_size),
        inner(c.expert_size),
        importance(static_cast<size_t>(c.num_experts), 0.0) {}
};

// Takes hidden states [tokens, hidden] through the layers.
class Collector {
 public:
  Collector(const OpenedModel& model, const CalibrationTokens& tokens)
      : config_(model.config), walk_(model, tokens) {}

  int64_t count() const { return walk_.count(); }

  // Both may be null.
  void RunLayer(int64_t layer, LayerMoments* moments, LayerInputs* inputs,
                const std::function<void(double)>& progress) {
    LayerObserver observer;
    if (inputs != nullptr) observer = inputs->Observe(&walk_);
    if (moments != nullptr) {
      observer.mlp = [this, moments, others = std::move(observer.mlp)](
                         const LayerWeights& w, int64_t tokens) {
        if (others) others(w, tokens);
        Add(tokens, moments);
      };
    }
    walk_.RunLayer(layer, observer, progress);
  }

  // Behind all layers.
  void RunHead(const OpenedModel& model, LayerInputs* inputs) {
    const Weights head = LoadHead(model);
    float* const states = walk_.states();
    NormTokens(head.final_norm, config_.rms_norm_eps, states, walk_.count(),
               states);
    inputs->Add("head", states, walk_.count(), config_.hidden_size);
  }

 private:
  void Add(int64_t tokens, LayerMoments* moments) {
    const Buffer<float>& normed = walk_.run().normed();
    const MlpScratch& mlp = walk_.run().mlp();
    moments->input.Add(normed.data(), tokens, config_.hidden_size);
    rounded_.Resize(normed.size());
    Kernels().to_bfloat16(normed.data(), normed.size(), rounded_.data());
    moments->write_inputs(BytesOf(rounded_));
    // Each pair's input of down, times its routing weight.
    const Routing& routing = mlp.routing;
    moments->picks.insert(moments->picks.end(), routing.experts.begin(),
                          routing.experts.end());
    moments->pick_weights.insert(moments->pick_weights.end(),
                                 routing.weights.begin(),
                                 routing.weights.end());
    const int64_t pairs = tokens * routing.picks_per_token;
    const int64_t size = config_.expert_size;
    inner_.Resize(pairs * size);
    for (int64_t i = 0; i < pairs; ++i) {
      const auto k = static_cast<size_t>(i);
      const float weight = routing.weights[k];
      moments->importance[static_cast<size_t>(routing.experts[k])] +=
          static_cast<double>(weight) * weight;
      const int64_t at = mlp.pair_of[i] * size;
      for (int64_t j = at; j < at + size; ++j) {
        inner_[j] = weight * mlp.gate[j];
      }
    }
    moments->inner.Add(inner_.data(), pairs, size);
  }

  const ModelConfig& config_;
  LayerWalk walk_;
  Buffer<float> inner_;
  Buffer<BFloat16> rounded_;
};

// In the order in which they are written.
std::vector<TensorDecl> Declare(const OpenedModel& model, int64_t tokens,
                                CalibrationScope scope) {
  const ModelConfig& c = model.config;
  std::vector<TensorDecl> tensors = {{"tokens", DType::kI32, {tokens}}};
  const auto add_inputs = [&](int64_t layer) {
    if (scope == CalibrationScope::kExperts) return;
    for (TensorDecl& tensor : LayerInputs::Declare(model, layer)) {
      tensors.push_back(std::move(tensor));
    }
  };
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    if (!c.IsMoeLayer(layer)) {
      add_inputs(layer);
      continue;
    }
    const auto add = [&](const char* what, DType dtype,
                         std::vector<int64_t> shape) {
      tensors.push_back({MomentsName(layer, what), dtype, std::move(shape)});
    };
    add("inputs", DType::kBF16, {tokens, c.hidden_size});
    add("picks", DType::kI32, {tokens, c.experts_per_token});
    add("pick_weights", DType::kF32, {tokens, c.experts_per_token});
    add("moment", DType::kF32, {c.hidden_size, c.hidden_size});
    add("importance", DType::kF32, {c.num_experts});
    add("down_moment", DType::kF32, {c.expert_size, c.expert_size});
    add_inputs(layer);
  }
  add_inputs(-1);
  return tensors;
}

void Write(const OpenedModel& model, const std::string& name,
           const Buffer<float>& values, SafetensorsWriter* writer) {
  CheckCalibrated(model, name,
                  {values.data(), static_cast<size_t>(values.size())});
  writer->Append(name, BytesOf(values));
}

void WriteLayer(const OpenedModel& model, int64_t layer,
                const LayerMoments& moments, int64_t tokens,
                SafetensorsWriter* writer) {
  const auto count = static_cast<double>(tokens);
  writer->Append(MomentsName(layer, "picks"), BytesOf(moments.picks));
  writer->Append(MomentsName(layer, "pick_weights"),
                 BytesOf(moments.pick_weights));
  Write(model, MomentsName(layer, "moment"), moments.input.Mean(count), writer);
  Buffer<float> importance(model.config.num_experts);
  double weights = 0;
  for (int64_t e = 0; e < importance.size(); ++e) {
    const double sum = moments.importance[static_cast<size_t>(e)];
    importance[e] = static_cast<float>(sum / count);
    weights += sum;
  }
  Write(model, MomentsName(layer, "importance"), importance, writer);
  Write(model, MomentsName(layer, "down_moment"), moments.inner.Mean(weights),
        writer);
}

}  // namespace

std::string CalibrationTokens::Hash() const {
  const std::string text =
      fmt::format("{} {}", HashBytes(std::as_bytes(ids)), context);
  return HashBytes(std::as_bytes(std::span(text.data(), text.size())));
}

std::map<std::string, std::string> CalibrationTokens::Metadata() const {
  return {{"tokens", std::to_string(ids.size())},
          {"context", std::to_string(context)},
          {"hash", Hash()}};
}

void CollectMoments(const OpenedModel& model, const CalibrationTokens& tokens,
                    CalibrationScope scope, const std::filesystem::path& file,
                    const ProgressFn& progress) {
  CheckTokens(model, tokens.ids, tokens.context);
  const ModelConfig& c = model.config;
  std::vector<TensorDecl> tensors =
      Declare(model, static_cast<int64_t>(tokens.ids.size()), scope);
  if (tensors.size() == 1) {
    Fail(ErrorKind::kUserInput, "{}: no layer has experts to calibrate",
         model.checkpoint.folder().string());
  }
  std::map<std::string, std::string> metadata = tokens.Metadata();
  metadata["model"] = WeightsIdentity(model.checkpoint.folder());
  SafetensorsWriter writer(file, std::move(tensors), metadata);
  writer.Append("tokens", std::as_bytes(tokens.ids));
  const bool all = scope == CalibrationScope::kAll;
  // Layers behind the last with experts would run for nothing.
  int64_t layers = c.num_layers;
  while (!all && !c.IsMoeLayer(layers - 1)) --layers;
  Collector collector(model, tokens);
  for (int64_t layer = 0; layer < layers; ++layer) {
    const auto report = ProgressOfLayer(progress, layer, layers);
    std::optional<LayerInputs> inputs;
    if (all) inputs.emplace(model, layer);
    LayerInputs* const others = inputs ? &*inputs : nullptr;
    if (!c.IsMoeLayer(layer)) {
      collector.RunLayer(layer, nullptr, others, report);
      if (inputs) inputs->Write(&writer);
      continue;
    }
    // The inputs of experts are written as they come, the others after them.
    LayerMoments moments(c);
    moments.write_inputs = [&](std::span<const std::byte> bytes) {
      writer.Append(MomentsName(layer, "inputs"), bytes);
    };
    collector.RunLayer(layer, &moments, others, report);
    WriteLayer(model, layer, moments, collector.count(), &writer);
    if (inputs) inputs->Write(&writer);
  }
  if (all) {
    LayerInputs head(model, -1);
    collector.RunHead(model, &head);
    head.Write(&writer);
  }
  writer.Commit();
}

double ProbeMoments(const OpenedModel& model, const CalibrationTokens& tokens,
                    CalibrationScope scope) {
  CheckTokens(model, tokens.ids, tokens.context);
  const ModelConfig& c = model.config;
  int64_t layer = 0;
  while (layer < c.num_layers && !c.IsMoeLayer(layer)) ++layer;
  if (layer == c.num_layers) return 0;
  const auto seconds = [&](int64_t windows) {
    const auto count = std::min(tokens.ids.size(),
                                static_cast<size_t>(windows * tokens.context));
    Collector collector(model, {tokens.ids.first(count), tokens.context});
    LayerMoments moments(c);
    moments.write_inputs = [](std::span<const std::byte>) {};
    std::optional<LayerInputs> inputs;
    if (scope == CalibrationScope::kAll) inputs.emplace(model, layer);
    const double start = MonotonicSeconds();
    collector.RunLayer(layer, &moments, inputs ? &*inputs : nullptr,
                       [](double) {});
    return MonotonicSeconds() - start;
  };
  // The first one brings code and pages in. Of two sizes: what each token
  // costs, and what the layer does.
  constexpr int64_t kFew = 2;
  constexpr int64_t kMore = 6;
  seconds(kFew);
  const double few = seconds(kFew);
  const double more = seconds(kMore);
  const auto windows = static_cast<double>(tokens.ids.size()) /
                       static_cast<double>(tokens.context);
  if (windows <= static_cast<double>(kMore)) {
    return more * static_cast<double>(c.num_layers);
  }
  const double each = std::max(more - few, 0.0) / (kMore - kFew);
  return static_cast<double>(c.num_layers) *
         (more + each * (windows - static_cast<double>(kMore)));
}

int64_t MomentsBytes(const OpenedModel& model, int64_t tokens,
                     CalibrationScope scope) {
  int64_t bytes = 0;
  for (const TensorDecl& tensor : Declare(model, tokens, scope)) {
    bytes += tensor.bytes();
  }
  return bytes;
}

}  // namespace mobe
