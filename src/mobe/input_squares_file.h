// The file of what a model's matrices read when it ran on a text: for each kind
// of input of a layer, the mean over all tokens of the square of each of its
// numbers. That is the diagonal of its second moment, which is all that the
// scale of a group of a row can use (tensor/packed.h): errors of a row's
// numbers are added up by their inputs, as if those were independent.
// model/input_squares.h writes it; its tensors are F32 [inputs], named
//
//   model.layers.{i}.attention     what attention's first matrices read
//   model.layers.{i}.query         of latent attention: the low-rank query
//   model.layers.{i}.latent        and the latent vector, normed
//   model.layers.{i}.context       what attention's output reads
//   model.layers.{i}.mlp           what gate and up of any expert read: with
//                                  the tokens of each expert alone, KL
//                                  divergence was measured to grow
//   model.layers.{i}.dense_down    what down of a dense MLP reads
//   model.layers.{i}.down.{e}      what an expert's down reads, which differs
//                                  from expert to expert: each of its tokens
//                                  weighted by the square of its routing weight
//   model.layers.{i}.gate.{e}, up.{e}   of a factored layer, likewise: what A
//                                  reads, f(mix) x
//   head                           what the output layer reads
//
// as many of them as the model has. An expert's mean has in it, as if of a few
// more tokens, the mean of all experts of the layer, so that one that the text
// hardly used has something to go by, too. There is none for A of down: it is
// multiplied by its rows, so that all numbers of a row share one input and
// count alike. Nor for bases, which meet the input behind a function, nor for
// the embedding, which reads none (also where it is the head, too).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/matrix.h"
#include "io/safetensors.h"
#include "mobe/open_model.h"

namespace mobe {

// The tensor of the file that is of a matrix's inputs, spec.shape[1] of them;
// empty where there is none.
std::string InputName(const OpenedModel& model, const TensorSpec& spec);
// "model.layers.3.down.7"; "model.layers.3.mlp" of expert -1; "head" of layer
// -1.
std::string InputName(int64_t layer, const char* what, int64_t expert = -1);

class InputSquares {
 public:
  // Both must outlive the object.
  InputSquares(const std::filesystem::path& file, const OpenedModel& model)
      : file_(file), model_(model) {}

  // How much the error of each column of a matrix counts, of mean 1 and none
  // zero; empty where nothing is known of them. Fails with kMissing or
  // kCorruptFile, naming the file, when it is of another model.
  Buffer<float> ImportanceOf(const TensorSpec& spec) const;

 private:
  SafetensorsFile file_;
  const OpenedModel& model_;
};

}  // namespace mobe
