// Rounding a model's matrices in the norm of what they read on a text: which
// moment is whose. Experts by compress/expert_rounding.h; what runs for every
// token by its input's moment (mobe/input_moments_file.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
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
  // `moments` is a file of mobe calibrate; `original` and `move` as
  // ExpertRounding has them. The models must outlive the object.
  WeighedRounding(const OpenedModel& model, const OpenedModel* original,
                  const std::filesystem::path& moments,
                  const FormatOfFn& format_of, MoveBasesFn move);

  // A matrix in its format, valid until the next call; null where its errors
  // are weighed by column alone, or not at all.
  const RoundedMatrix* Find(const TensorSpec& spec);
  // The numbers of a tensor that is not rounded but has moved, rounded to its
  // dtype: alpha, where its bases did. Null for all others.
  const Buffer<float>* FindMoved(const std::string& name);
  // How much the error of each column counts; empty: all alike.
  Buffer<float> ImportanceOf(const TensorSpec& spec) const;

 private:
  // Those whose inputs are the same follow one another: the norm is kept.
  const RoundedMatrix* RoundByInput(const TensorSpec& spec);
  // Null where they stay as they are.
  const FormatRow* FormatOfBases(const TensorSpec& spec) const;
  // Whether A of all of the job's experts is rounded, and so solved for again.
  bool RoundsA(const BasesJob& job) const;

  const OpenedModel& model_;
  const FormatOfFn format_of_;
  // By layer and expert.
  std::map<std::pair<int64_t, int64_t>, ExpertFormats> formats_;
  std::map<std::string, const TensorSpec*> bases_, alphas_;  // by name
  std::set<int64_t> moving_;  // layers some of whose bases are rounded
  ExpertRounding experts_;
  InputMoments inputs_;
  std::string input_;  // whose norm is kept
  RoundingNorm norm_;
  RoundedMatrix rounded_;
};

}  // namespace mobe
