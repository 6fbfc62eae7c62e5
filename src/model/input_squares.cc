#include "model/input_squares.h"

#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "io/safetensors.h"
#include "mobe/input_squares_file.h"
#include "model/layer_walk.h"

namespace mobe {
namespace {

// A tensor of the file, and what those of a layer's experts have in common:
// empty for others.
struct DeclaredInput {
  TensorDecl tensor;
  std::string pool;
};

// Those of a layer; of layer -1 what is behind all layers.
std::vector<DeclaredInput> DeclareLayer(const OpenedModel& model,
                                        int64_t layer) {
  std::vector<DeclaredInput> inputs;
  std::set<std::string> known;
  for (const TensorSpec& spec : model.tensors) {
    if (spec.layer != layer) continue;
    const std::string name = InputName(model, spec);
    if (name.empty() || !known.insert(name).second) continue;
    inputs.push_back({{name, DType::kF32, {spec.shape[1]}},
                      spec.expert < 0 ? "" : name.substr(0, name.rfind('.'))});
  }
  return inputs;
}

// All of them, in the order in which they are written.
std::vector<TensorDecl> DeclareInputs(const OpenedModel& model) {
  std::vector<TensorDecl> tensors;
  const auto add = [&](int64_t layer) {
    for (DeclaredInput& input : DeclareLayer(model, layer)) {
      tensors.push_back(std::move(input.tensor));
    }
  };
  for (int64_t layer = 0; layer < model.config.num_layers; ++layer) add(layer);
  add(-1);
  return tensors;
}

// Rows of inputs, `stride` apart. Each counts `weights` times; null: once.
struct InputRows {
  const float* x;
  int64_t rows;
  int64_t stride;
  const float* weights = nullptr;
};

// Sums of squares by column, in the order of the rows.
class SquareSums {
 public:
  explicit SquareSums(int64_t size) : sums_(static_cast<size_t>(size), 0.0) {}

  void Add(const InputRows& in) {
    constexpr int64_t kGrain = 64;
    ParallelRanges(std::ssize(sums_), kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t r = 0; r < in.rows; ++r) {
        const double weight = in.weights == nullptr ? 1.0 : in.weights[r];
        const float* x = in.x + r * in.stride;
        for (int64_t j = begin; j < end; ++j) {
          sums_[static_cast<size_t>(j)] += weight * x[j] * x[j];
        }
      }
    });
    for (int64_t r = 0; r < in.rows; ++r) {
      weights_ += in.weights == nullptr ? 1.0 : in.weights[r];
    }
    rows_ += static_cast<double>(in.rows);
  }
  void Add(const SquareSums& other) {
    for (size_t j = 0; j < sums_.size(); ++j) sums_[j] += other.sums_[j];
    weights_ += other.weights_;
    rows_ += other.rows_;
  }

  // With kPooledInputs rows that are as the mean of `pool`, unless that is
  // null.
  std::vector<float> Mean(const SquareSums* pool) const {
    SquareSums all = *this;
    if (pool != nullptr && pool->rows_ > 0) {
      const double share = kPooledInputs / pool->rows_;
      for (size_t j = 0; j < sums_.size(); ++j) {
        all.sums_[j] += share * pool->sums_[j];
      }
      all.weights_ += share * pool->weights_;
    }
    std::vector<float> mean;
    mean.reserve(sums_.size());
    for (const double sum : all.sums_) {
      mean.push_back(all.weights_ > 0 ? static_cast<float>(sum / all.weights_)
                                      : 0);
    }
    return mean;
  }

 private:
  std::vector<double> sums_;
  double weights_ = 0;
  double rows_ = 0;
};

// Takes hidden states [tokens, hidden] through the layers and the final norm.
class InputCollector {
 public:
  InputCollector(const OpenedModel& model, const CalibrationTokens& tokens)
      : model_(model), config_(model.config), walk_(model, tokens) {}

  void RunLayer(int64_t layer, const std::function<void(double)>& progress) {
    Begin(layer);
    LayerObserver observer;
    observer.attention = [this](const LayerWeights& w, int64_t tokens) {
      AddAttention(w, tokens);
    };
    observer.shared = [this](const LayerWeights& w, int64_t tokens) {
      if (w.dense) AddDense(tokens);
    };
    observer.mlp = [this](const LayerWeights& w, int64_t tokens) {
      Add("mlp", {walk_.run().normed().data(), tokens, config_.hidden_size});
      if (w.experts.empty()) {
        AddDense(tokens);
      } else {
        AddExperts(w);
      }
    };
    walk_.RunLayer(layer, observer, progress);
  }

  void RunHead() {
    Begin(-1);
    const Weights head = LoadHead(model_);
    float* const states = walk_.states();
    NormTokens(head.final_norm, config_.rms_norm_eps, states, walk_.count(),
               states);
    Add("head", {states, walk_.count(), config_.hidden_size});
  }

  // What was found of the layer that ran last, or of the head.
  void Write(SafetensorsWriter* writer) const {
    std::map<std::string, SquareSums> pools;
    for (const DeclaredInput& input : inputs_) {
      if (input.pool.empty()) continue;
      pools.emplace(input.pool, SquareSums(input.tensor.shape[0]))
          .first->second.Add(sums_.at(input.tensor.name));
    }
    for (const auto& [tensor, pool] : inputs_) {
      const std::vector<float> mean =
          sums_.at(tensor.name).Mean(pool.empty() ? nullptr : &pools.at(pool));
      CheckCalibrated(model_, tensor.name, mean);
      writer->Append(tensor.name, std::as_bytes(std::span(mean)));
    }
  }

 private:
  void Begin(int64_t layer) {
    layer_ = layer;
    inputs_ = DeclareLayer(model_, layer);
    sums_.clear();
    for (const DeclaredInput& input : inputs_) {
      sums_.emplace(input.tensor.name, SquareSums(input.tensor.shape[0]));
    }
  }

  // What no matrix of the model reads is passed over.
  void Add(const char* what, const InputRows& rows, int64_t expert = -1) {
    const auto found = sums_.find(InputName(layer_, what, expert));
    if (found != sums_.end()) found->second.Add(rows);
  }

  void AddAttention(const LayerWeights& w, int64_t tokens) {
    const AttentionScratch& s = walk_.run().attention();
    const AttentionWeights& a = w.attention;
    Add("attention",
        {walk_.run().normed().data(), tokens, config_.hidden_size});
    Add("query", {s.query_down.data(), tokens, a.query_down.rows});
    Add("latent", {s.latent.data(), tokens, a.latent_down.rows});
    Add("context", {s.context.data(), tokens, a.output.cols});
  }

  // While `gate` is that of what runs for every token.
  void AddDense(int64_t tokens) {
    const Buffer<float>& inner = walk_.run().mlp().gate;
    Add("dense_down", {inner.data(), tokens, inner.size() / tokens});
  }

  void AddExperts(const LayerWeights& w) {
    const MlpScratch& s = walk_.run().mlp();
    pair_weights_.Resize(s.pairs());
    for (int64_t i = 0; i < s.pairs(); ++i) {
      const float weight = s.routing.weights[static_cast<size_t>(i)];
      pair_weights_[s.pair_of[i]] = weight * weight;
    }
    const auto add = [&](const char* what, const Buffer<float>& x) {
      const int64_t size = x.size() / s.pairs();
      for (int64_t e = 0; e < config_.num_experts; ++e) {
        const int64_t begin = s.starts[static_cast<size_t>(e)];
        const int64_t end = s.starts[static_cast<size_t>(e) + 1];
        Add(what,
            {x.data() + begin * size, end - begin, size,
             pair_weights_.data() + begin},
            e);
      }
    };
    add("down", s.gate);
    if (!w.factored) return;
    if (!w.factored->gate.empty()) add("gate", s.mixed_gate);
    if (!w.factored->up.empty()) add("up", s.mixed_up);
  }

  const OpenedModel& model_;
  const ModelConfig& config_;
  LayerWalk walk_;
  Buffer<float> pair_weights_;
  int64_t layer_ = 0;  // that runs
  std::vector<DeclaredInput> inputs_;
  std::map<std::string, SquareSums> sums_;
};

}  // namespace

void CollectInputSquares(const OpenedModel& model,
                         const CalibrationTokens& tokens,
                         const std::filesystem::path& file,
                         const ProgressFn& progress) {
  CheckTokens(model, tokens.ids, tokens.context);
  SafetensorsWriter writer(file, DeclareInputs(model), tokens.Metadata());
  InputCollector collector(model, tokens);
  const int64_t layers = model.config.num_layers;
  for (int64_t layer = 0; layer < layers; ++layer) {
    collector.RunLayer(layer, ProgressOfLayer(progress, layer, layers));
    collector.Write(&writer);
  }
  collector.RunHead();
  collector.Write(&writer);
  writer.Commit();
}

int64_t InputSquaresBytes(const OpenedModel& model) {
  int64_t bytes = 0;
  for (const TensorDecl& tensor : DeclareInputs(model)) bytes += tensor.bytes();
  return bytes;
}

}  // namespace mobe
