#include "eval/damage.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "eval/statistics.h"
#include "kernels/linear.h"
#include "model/layer_run.h"
#include "model/norm.h"

namespace mobe {
namespace {

// Tokens whose logits are held at a time: twice this many rows.
constexpr int64_t kLogitsRows = 64;

// A layer with other matrices of one kind, [experts] as they are stored.
LayerWeights WithReplaced(const LayerWeights& layer, const MatrixKind& kind,
                          const Buffer<BFloat16>& matrices) {
  LayerWeights replaced = layer;
  const BFloat16* data = matrices.data();
  for (const KindMembers& members : kKindMembers) {
    if (&members.kind != &kind) continue;
    for (MlpWeights& expert : replaced.experts) {
      WeightView& view = expert.*members.matrix;
      view = {NumberFormat::kBF16, data, view.rows, view.cols};
      data += view.rows * view.cols;
    }
  }
  return replaced;
}

class DamageRun {
 public:
  DamageRun(const OpenedModel& model, const CalibrationTokens& tokens,
            size_t copies)
      : model_(model),
        hidden_(model.config.hidden_size),
        tokens_(static_cast<int64_t>(tokens.ids.size())),
        context_(std::min(tokens.context, tokens_)),
        run_(model, context_),
        states_((static_cast<int64_t>(copies) + 1) * tokens_ * hidden_) {
    run_.Embed(tokens.ids, states_.data());
  }

  // All copies through one layer; a new one for each of `kinds`.
  void RunLayer(int64_t layer, const std::vector<const MatrixKind*>& kinds,
                const ReplaceFn& replace) {
    const Weights weights = LoadOneLayer(model_, layer);
    const LayerWeights& w = weights.layers.front();
    for (int64_t copy = 0; copy < copies_; ++copy) {
      for (int64_t begin = 0; begin < tokens_; begin += context_) {
        run_.AddAttention(w, State(copy) + begin * hidden_,
                          std::min(context_, tokens_ - begin));
      }
    }
    const int64_t before = copies_;
    for (const MatrixKind* kind : kinds) {
      std::copy_n(State(0), tokens_ * hidden_, State(copies_));
      const Buffer<BFloat16> matrices = replace(layer, *kind);
      AddMlp(WithReplaced(w, *kind, matrices), layer, copies_, 1);
      ++copies_;
    }
    AddMlp(w, layer, 0, before);
    run_.Evict(layer);
  }

  // Of each copy but the model itself. Calls progress(share done).
  std::vector<double> Divergences(const std::function<void(double)>& progress) {
    const int64_t vocab = model_.config.vocab_size;
    const Weights head = LoadHead(model_);
    Buffer<float> normed(kLogitsRows * hidden_);
    Buffer<float> logits[2] = {Buffer<float>(kLogitsRows * vocab),
                               Buffer<float>(kLogitsRows * vocab)};
    std::vector<double> sums(static_cast<size_t>(copies_ - 1), 0.0);
    for (int64_t begin = 0; begin < tokens_; begin += kLogitsRows) {
      const int64_t rows = std::min(kLogitsRows, tokens_ - begin);
      progress(static_cast<double>(begin) / static_cast<double>(tokens_));
      for (int64_t copy = 0; copy < copies_; ++copy) {
        float* to = logits[copy == 0 ? 0 : 1].data();
        RmsNorm(head.final_norm, model_.config.rms_norm_eps,
                State(copy) + begin * hidden_, rows, normed.data());
        Linear(head.output, normed.data(), rows, {}, to);
        if (copy == 0) continue;
        sums[static_cast<size_t>(copy - 1)] +=
            SumOfKl(rows, vocab, logits[0].data(), to);
      }
    }
    for (double& sum : sums) sum /= static_cast<double>(tokens_);
    return sums;
  }

 private:
  float* State(int64_t copy) {
    return states_.data() + copy * tokens_ * hidden_;
  }

  void AddMlp(const LayerWeights& w, int64_t layer, int64_t first_copy,
              int64_t copies) {
    const int64_t count = copies * tokens_;
    for (int64_t begin = 0; begin < count; begin += LayerRun::kChunk) {
      run_.AddMlp(w, layer, State(first_copy) + begin * hidden_,
                  std::min(LayerRun::kChunk, count - begin));
    }
  }

  double SumOfKl(int64_t rows, int64_t vocab, const float* base,
                 const float* other) const {
    std::vector<double> values(static_cast<size_t>(rows));
    ParallelFor(rows, [&](int64_t i) {
      const auto size = static_cast<size_t>(vocab);
      const std::span<const float> p(base + i * vocab, size);
      const std::span<const float> q(other + i * vocab, size);
      values[static_cast<size_t>(i)] =
          KlDivergence(p, SoftmaxOf(p), q, SoftmaxOf(q));
    });
    double sum = 0;
    for (const double value : values) sum += value;
    if (!std::isfinite(sum)) {
      Fail(ErrorKind::kCorruptFile,
           "{}: the logits are not finite; the weights are damaged, or too "
           "large to be run in float32",
           model_.checkpoint.folder().string());
    }
    return sum;
  }

  const OpenedModel& model_;
  const int64_t hidden_;
  const int64_t tokens_;
  const int64_t context_;
  LayerRun run_;
  Buffer<float> states_;  // [copies, tokens, hidden]; the first is the model's
  int64_t copies_ = 1;
};

}  // namespace

std::vector<double> MeasureDamage(const OpenedModel& model,
                                  const CalibrationTokens& tokens,
                                  const std::vector<LayerKind>& matrices,
                                  const ReplaceFn& replace,
                                  const ProgressFn& progress) {
  CheckTokens(model, tokens.ids, tokens.context);
  DamageRun run(model, tokens, matrices.size());
  auto next = matrices.begin();
  for (int64_t layer = 0; layer < model.config.num_layers; ++layer) {
    std::vector<const MatrixKind*> kinds;
    for (; next != matrices.end() && next->layer == layer; ++next) {
      kinds.push_back(next->kind);
    }
    progress({static_cast<double>(layer) /
                  static_cast<double>(model.config.num_layers),
              fmt::format("sensitivity of layer {}", layer)});
    run.RunLayer(layer, kinds, replace);
  }
  return run.Divergences([&](double done) {
    progress({done, "sensitivity, at the end"});
  });
}

}  // namespace mobe
