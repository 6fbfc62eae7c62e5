// The file of a calibration: what the experts of each layer read when the model
// ran on a text. model/moments.h writes it; here are its tensors, F32 but where
// said:
//
//   tokens                        I32 [tokens]: the text, as ids
//   model.layers.{i}.moment       [hidden, hidden]: mean of x x^T over all
//                                 tokens, x the normed input of the experts
//   model.layers.{i}.importance   [experts]: mean over all tokens of the square
//                                 of the expert's routing weight, 0 where it is
//                                 not chosen
//   model.layers.{i}.down_moment  [expert_size, expert_size]: mean of h h^T, h
//                                 the input of down, silu(gate x) * (up x),
//                                 over all pairs of a token and a chosen
//                                 expert, weighted by the square of the routing
//                                 weight
//   model.layers.{i}.inputs       BF16 [tokens, hidden]: x itself, from which
//                                 each expert's own moment can be computed
//                                 without storing hidden^2 numbers for each
//   model.layers.{i}.picks        I32 [tokens, picks]: the chosen experts,
//                                 ascending
//   model.layers.{i}.pick_weights [tokens, picks]: their routing weights
//   ...                           and, where all matrices were asked for, those
//                                 of mobe/input_moments_file.h
//   metadata                      "tokens": their number, "context", "hash",
//                                 "model": WeightsIdentity of it
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "fit/fit.h"
#include "mobe/format.h"

namespace mobe {

// What the file says of itself. Fails with kCorruptFile when it is none of
// these.
struct MomentsHeader {
  int64_t tokens = 0;
  std::string hash;   // of the token ids and windows
  std::string model;  // WeightsIdentity
  int64_t context = 0;
};
MomentsHeader ReadMomentsHeader(const std::filesystem::path& path);

// The text that it was made of. Fails with kMissing for a file of a mobe that
// did not keep it.
std::vector<int32_t> LoadMomentsTokens(const std::filesystem::path& path);

// "model.layers.3.moment" of (3, "moment").
std::string MomentsName(int64_t layer, const char* what);

// Fills moment, importance and inputs of a target that holds gate or up of
// `layer`; leaves one of down as it is, since its columns are what down writes,
// not what it reads. The moment is scaled to a mean diagonal of 1; importance
// to a mean of 1, and then raised to kLeastImportance where it is less, so that
// experts that the text did not use count too. Fails with kMissing, naming
// file and tensor, when the file is of another model.
inline constexpr float kLeastImportance = 0.05f;
void LoadMoments(const std::filesystem::path& path, int64_t layer,
                 const MatrixKind& kind, FitTarget* target);
// The same for a target that holds a group of the layer's experts.
void LoadMoments(const std::filesystem::path& path, int64_t layer,
                 const MatrixKind& kind, int64_t experts,
                 const ExpertGroup& group, FitTarget* target);

// down_moment [size, size] of a layer, scaled to a mean diagonal of 1. Fails
// likewise.
Buffer<float> LoadDownMoment(const std::filesystem::path& path, int64_t layer,
                             int64_t size);

}  // namespace mobe
