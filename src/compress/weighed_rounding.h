// Rounding a model's matrices in the norm of what they read on a text: which
// moment is whose. Experts by compress/expert_rounding.h; what runs for every
// token by its input's moment (mobe/input_moments_file.h), and bases of fewer
// than 8 bits by that of the experts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/matrix.h"
#include "compress/expert_rounding.h"
#include "compress/packing.h"
#include "mobe/input_moments_file.h"
#include "mobe/open_model.h"

namespace mobe {

class WeighedRounding {
 public:
  // `moments` is a file of mobe calibrate, `original` as ExpertRounding has it.
  // The models must outlive the object.
  WeighedRounding(const OpenedModel& model, const OpenedModel* original,
                  const std::filesystem::path& moments,
                  const FormatOfFn& format_of);

  // A matrix in its format, valid until the next call; null where its errors
  // are weighed by column alone, or not at all.
  const RoundedMatrix* Find(const TensorSpec& spec);
  // What some of a layer's experts, which must be alike in their formats, lose.
  ExpertErrors Measure(int64_t layer, const std::vector<int64_t>& experts);
  // How much the error of each column counts; empty: all alike.
  Buffer<float> ImportanceOf(const TensorSpec& spec) const;

 private:
  // Those whose inputs are the same follow one another: the norm is kept.
  const RoundedMatrix* RoundByInput(const TensorSpec& spec);
  Buffer<float> RoundedBases(const TensorView& bases);

  const OpenedModel& model_;
  const FormatOfFn format_of_;
  // By layer and expert.
  std::map<std::pair<int64_t, int64_t>, ExpertFormats> formats_;
  std::map<std::string, const TensorSpec*> bases_;  // by name
  ExpertRounding experts_;
  InputMoments inputs_;
  std::string input_;  // whose norm is kept
  RoundingNorm norm_;
  RoundedMatrix rounded_;
};

// The tensors of a model in the order in which they are rounded with the least
// work: those of each expert behind one another.
std::vector<TensorSpec> ExpertByExpert(std::vector<TensorSpec> tensors);

}  // namespace mobe
