#include "mobe/expert_outputs.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "fit/output_solve.h"
#include "io/fp8.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"

namespace mobe {

void LinearizeExpert(const ExpertMatrices& matrices, const MatrixKind& kind,
                     const RoutedInputs& inputs, int64_t expert, int64_t rows,
                     int64_t cols, ExpertOutputs* outputs) {
  const auto e = static_cast<size_t>(expert);
  const int64_t pairs = inputs.starts[e + 1] - inputs.starts[e];
  const int64_t step = (pairs + kMostOutputTokens - 1) / kMostOutputTokens;
  std::vector<float> weights;
  outputs->tokens.clear();
  for (int64_t i = inputs.starts[e]; i < inputs.starts[e + 1]; i += step) {
    outputs->tokens.push_back(inputs.tokens[static_cast<size_t>(i)]);
    weights.push_back(inputs.weights[static_cast<size_t>(i)]);
  }
  const auto tokens = static_cast<int64_t>(weights.size());
  // `wanted` is what the kind puts out, `slopes` for now what the other does.
  outputs->wanted.Resize(rows * tokens);
  outputs->slopes.Resize(rows * tokens);
  const bool is_gate = &kind == &kGateKind;
  Buffer<float>& gate = is_gate ? outputs->wanted : outputs->slopes;
  Buffer<float>& up = is_gate ? outputs->slopes : outputs->wanted;
  Buffer<float> x(kGatherTokens * cols);
  for (int64_t begin = 0; begin < tokens; begin += kGatherTokens) {
    const int64_t count = std::min(kGatherTokens, tokens - begin);
    GatherInputs(inputs, outputs->tokens.data() + begin, count, cols, x.data());
    Gemm(Trans::kNo, Trans::kYes, rows, count, cols, matrices.gate, cols,
         x.data(), cols, 0.0f, gate.data() + begin, tokens);
    Gemm(Trans::kNo, Trans::kYes, rows, count, cols, matrices.up, cols,
         x.data(), cols, 0.0f, up.data() + begin, tokens);
  }
  for (int64_t j = 0; j < rows; ++j) {
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t at = j * tokens + t;
      const float g = gate[at];
      const float sigmoid = 1 / (1 + std::exp(-g));
      const float slope =
          is_gate ? sigmoid * (1 + g * (1 - sigmoid)) * up[at] : g * sigmoid;
      outputs->slopes[at] = weights[static_cast<size_t>(t)] * slope;
    }
  }
  outputs->gram.Resize(rows * rows);
  Gemm(Trans::kYes, Trans::kNo, rows, rows, cols, matrices.down, rows,
       matrices.down, rows, 0.0f, outputs->gram.data(), rows);
}

OutputsFn OutputsOf(const OpenedModel& model, int64_t layer,
                    const MatrixKind& kind, const ExpertGroup& group) {
  if (kind.transposed) return nullptr;
  return [&model, &kind, layer, first = group.first](const RoutedInputs& inputs,
                                                     int64_t expert,
                                                     ExpertOutputs* outputs) {
    const int64_t rows = model.config.expert_size;
    const int64_t cols = model.config.hidden_size;
    thread_local Buffer<float> gate;
    thread_local Buffer<float> up;
    thread_local Buffer<float> down;
    const auto load = [&](Role role, Buffer<float>* matrix) {
      const TensorView& tensor = model.At(role, layer, first + expert);
      matrix->Resize(rows * cols);
      LoadFloats(tensor, matrix->data());
      model.checkpoint.Evict(tensor);
      return matrix->data();
    };
    LinearizeExpert({load(Role::kExpertGate, &gate), load(Role::kExpertUp, &up),
                     load(Role::kExpertDown, &down)},
                    kind, inputs, expert, rows, cols, outputs);
  };
}

}  // namespace mobe
