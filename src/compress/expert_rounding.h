// The matrices of a model's experts in few bits, so that the experts' outputs
// on a text lose little (fit/error_feedback.h): gate and up in the norm of what
// their expert read; then down, which is first moved to where it makes up for
// what its inputs have become by that:
//
//   D' = D C G^-1,  C = E[h h'^T],  G = E[h' h'^T],
//
// h and h' being down's inputs before and after, over the expert's tokens, with
// the layer's moment of h and a part of the identity in both (as in
// fit/weighted_solve.h); and then rounded in the norm of G.
//
// Of a factored layer it is A that is rounded, in the norm of what it reads,
// N S N^T; where its bases are rounded, or the original's matrices are at hand,
// after it was solved for them again, as at the end of a calibrated fit. Bases
// are moved before they are rounded (compress/bases_rounding.h)
// (fit/output_solve.h; where down is factored, too, by fit/weighted_solve.h
// alone). A of down stays out: it meets its input by rows.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <vector>

#include "compress/bases_rounding.h"
#include "fit/error_feedback.h"
#include "io/checkpoint.h"
#include "mobe/open_model.h"

namespace mobe {

// An expert's matrices in the formats that they are to have; null: as they are.
struct ExpertFormats {
  const FormatRow* gate = nullptr;
  const FormatRow* up = nullptr;
  const FormatRow* down = nullptr;
};
struct RoundedExpert {
  RoundedMatrix gate, up, down;
};
// What an expert's matrices lose of what they put out, in the norm of what each
// reads, A being solved for in that norm: squared errors as shares; 0 of one
// that stays as it is.
struct ExpertErrors {
  double gate = 0;
  double up = 0;
  double down = 0;
};

class ExpertRounding {
 public:
  // The format that bases are to have; null where they stay as they are.
  using BasesFormatFn = std::function<const FormatRow*(const TensorView&)>;

  // `moments` is a file of mobe/moments_file.h. `original`, whose matrices a
  // factored layer is to be near, may be null: they are then the product of its
  // factors. Both models must outlive the object.
  ExpertRounding(const OpenedModel& model, const OpenedModel* original,
                 std::filesystem::path moments, BasesFormatFn bases_format,
                 MoveBasesFn move);
  ~ExpertRounding();

  // Valid until the next call. Several experts are rounded together, one in
  // each thread: fast where an expert follows the one before it. A layer's
  // experts must always be asked for in the same formats.
  const RoundedExpert& Find(int64_t layer, int64_t expert,
                            const ExpertFormats& formats);
  // What is stored of bases, and of an alpha, rounded to its dtype; null where
  // they stay as they are. Valid until another layer is asked for.
  const RoundedMatrix* FindBases(const TensorSpec& spec);
  const Buffer<float>* FindAlpha(const TensorSpec& spec);
  // The mean over some experts.
  ExpertErrors Measure(int64_t layer, const std::vector<int64_t>& experts,
                       const ExpertFormats& formats);

 private:
  class Layer;
  void Load(int64_t layer);

  const OpenedModel& model_;
  const OpenedModel* const original_;
  const std::filesystem::path moments_;
  const BasesFormatFn bases_format_;
  const MoveBasesFn move_;
  std::unique_ptr<Layer> layer_;
  int64_t index_ = -1;  // of the layer
  int64_t first_ = 0;   // of the experts below
  std::vector<RoundedExpert> experts_;
};

}  // namespace mobe
