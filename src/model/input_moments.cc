#include "model/input_moments.h"

#include <set>
#include <span>
#include <utility>

#include "base/parallel.h"
#include "mobe/input_moments_file.h"

namespace mobe {

void LayerInputs::SquareSum::Add(const float* x, int64_t rows, int64_t stride) {
  constexpr int64_t kGrain = 64;
  const int64_t size = std::ssize(sums);
  ParallelRanges(size, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t j = begin; j < end; ++j) {
        const double value = x[r * stride + j];
        sums[static_cast<size_t>(j)] += value * value;
      }
    }
  });
}

std::vector<TensorDecl> LayerInputs::Declare(const OpenedModel& model,
                                             int64_t layer) {
  std::vector<TensorDecl> tensors;
  std::set<std::string> known;
  // That of a layer with experts is written with what else is known of them.
  if (layer >= 0 && model.config.IsMoeLayer(layer)) {
    known.insert(InputName(layer, "moment"));
  }
  const auto add = [&](const std::string& name, int64_t size) {
    if (name.empty() || !known.insert(name).second) return;
    std::vector<int64_t> shape = {size};
    if (size <= kMostInputs) shape.push_back(size);
    tensors.push_back({name, DType::kF32, std::move(shape)});
  };
  for (const TensorSpec& spec : model.tensors) {
    if (spec.layer == layer && spec.expert < 0) {
      add(InputName(model.config, spec), spec.shape.back());
    }
  }
  return tensors;
}

LayerInputs::LayerInputs(const OpenedModel& model, int64_t layer)
    : model_(model), layer_(layer) {
  for (const TensorDecl& tensor : Declare(model, layer)) {
    const int64_t size = tensor.shape[0];
    if (tensor.shape.size() == 2) {
      inputs_.emplace(tensor.name, Input{MomentSum(size)});
    } else {
      inputs_.emplace(
          tensor.name,
          Input{SquareSum{std::vector<double>(static_cast<size_t>(size))}});
    }
  }
}

void LayerInputs::Add(const char* what, const float* x, int64_t tokens,
                      int64_t stride) {
  const auto found = inputs_.find(InputName(layer_, what));
  if (found == inputs_.end()) return;
  std::visit([&](auto& sum) { sum.Add(x, tokens, stride); }, found->second.sum);
  found->second.tokens += tokens;
}

void LayerInputs::AddDense(LayerWalk* walk, int64_t tokens) {
  // While `gate` is that of what runs for every token.
  const Buffer<float>& inner = walk->run().mlp().gate;
  Add("dense_down", inner.data(), tokens, inner.size() / tokens);
}

LayerObserver LayerInputs::Observe(LayerWalk* walk) {
  LayerObserver observer;
  const int64_t hidden = model_.config.hidden_size;
  observer.attention = [this, walk, hidden](const LayerWeights& w,
                                            int64_t tokens) {
    const AttentionScratch& s = walk->run().attention();
    const AttentionWeights& a = w.attention;
    Add("attention", walk->run().normed().data(), tokens, hidden);
    Add("query", s.query_down.data(), tokens, a.query_down.rows);
    Add("latent", s.latent.data(), tokens, a.latent_down.rows);
    Add("context", s.context.data(), tokens, a.output.cols);
  };
  observer.shared = [this, walk](const LayerWeights& w, int64_t tokens) {
    if (w.dense) AddDense(walk, tokens);
  };
  observer.mlp = [this, walk, hidden](const LayerWeights& w, int64_t tokens) {
    Add("moment", walk->run().normed().data(), tokens, hidden);
    if (w.experts.empty()) AddDense(walk, tokens);
  };
  return observer;
}

void LayerInputs::Write(SafetensorsWriter* writer) const {
  for (const TensorDecl& tensor : Declare(model_, layer_)) {
    const Input& input = inputs_.at(tensor.name);
    const auto tokens = static_cast<double>(input.tokens);
    Buffer<float> mean;
    if (const auto* moment = std::get_if<MomentSum>(&input.sum)) {
      mean = moment->Mean(tokens);
    } else {
      const auto& sums = std::get<SquareSum>(input.sum).sums;
      mean.Resize(std::ssize(sums));
      for (int64_t j = 0; j < mean.size(); ++j) {
        mean[j] = static_cast<float>(sums[static_cast<size_t>(j)] / tokens);
      }
    }
    const std::span<const float> values(mean.data(),
                                        static_cast<size_t>(mean.size()));
    CheckCalibrated(model_, tensor.name, values);
    writer->Append(tensor.name, std::as_bytes(values));
  }
}

}  // namespace mobe
