// What the matrices that run for every token read, while a layer of a
// calibration runs: the part of mobe/moments_file.h that
// mobe/input_moments_file.h describes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "io/safetensors.h"
#include "mobe/open_model.h"
#include "model/layer_walk.h"
#include "model/moment_sum.h"

namespace mobe {

// Of one layer, or, as layer -1, of what is behind all layers.
class LayerInputs {
 public:
  LayerInputs(const OpenedModel& model, int64_t layer);

  // In the order in which Write does.
  static std::vector<TensorDecl> Declare(const OpenedModel& model,
                                         int64_t layer);

  // Looks on while the layer runs.
  LayerObserver Observe(LayerWalk* walk);
  // x [tokens, inputs], rows `stride` apart; what no matrix of the model reads
  // is passed over.
  void Add(const char* what, const float* x, int64_t tokens, int64_t stride);

  void Write(SafetensorsWriter* writer) const;

 private:
  // Sums of squares by column, in the order of the rows.
  struct SquareSum {
    std::vector<double> sums;
    void Add(const float* x, int64_t rows, int64_t stride);
  };
  struct Input {
    std::variant<MomentSum, SquareSum> sum;
    int64_t tokens = 0;
  };
  void AddDense(LayerWalk* walk, int64_t tokens);

  const OpenedModel& model_;
  const int64_t layer_;
  std::map<std::string, Input> inputs_;
};

}  // namespace mobe
