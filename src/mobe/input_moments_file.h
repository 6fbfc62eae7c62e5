// What a calibration's file (mobe/moments_file.h) says of the inputs of
// matrices that run for every token: the mean over all tokens of x x^T, F32
// [inputs, inputs], or of the squares alone, [inputs], where there are more
// than kMostInputs. model/input_moments.h writes them; they are named
//
//   model.layers.{i}.attention     what attention's first matrices read
//   model.layers.{i}.query         of latent attention: the low-rank query
//   model.layers.{i}.latent        and the latent vector, normed
//   model.layers.{i}.context       what attention's output reads
//   model.layers.{i}.moment        what gate and up read, and bases in their
//   place model.layers.{i}.dense_down    what down of a dense MLP reads head
//   what the output layer reads
//
// as many of them as the model has. There is none for an embedding that is no
// head.
#pragma once

#include <filesystem>
#include <string>

#include "base/matrix.h"
#include "io/safetensors.h"
#include "mobe/open_model.h"

namespace mobe {

// A moment of more inputs is kept as its diagonal: 1 GB in float32 is one of
// 16384.
inline constexpr int64_t kMostInputs = 8192;

// The tensor of the file that is of a matrix's inputs; empty where there is
// none: for experts, whose inputs differ, too.
std::string InputName(const ModelConfig& config, const TensorSpec& spec);
// "model.layers.3.context"; "head" of layer -1.
std::string InputName(int64_t layer, const char* what);

// Scaled to a mean diagonal of 1; one of the two, or none where nothing is
// known.
struct InputMoment {
  Buffer<float> moment;   // [inputs, inputs]
  Buffer<float> squares;  // [inputs], none of them zero
};

class InputMoments {
 public:
  // The config must outlive the object.
  InputMoments(const std::filesystem::path& file, const ModelConfig& config)
      : file_(file), config_(config) {}

  // Fails with kMissing or kCorruptFile, naming the file, when it is of another
  // model or has experts' inputs alone, as compress collects them.
  InputMoment Of(const TensorSpec& spec) const;

 private:
  SafetensorsFile file_;
  const ModelConfig& config_;
};

}  // namespace mobe
