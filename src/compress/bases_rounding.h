// Bases in few bits, each number the nearest that its format can store: what
// their experts' A then makes up for (compress/expert_rounding.h). Feedback in
// the norm of what they read, as matrices are rounded with, loses more here: it
// is right for an A that stays. Before that bases move to where they bear it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/matrix.h"
#include "fit/error_feedback.h"
#include "fit/method.h"
#include "mobe/format.h"
#include "tensor/format.h"

namespace mobe {

// bases [num_bases, rank, cols], finite, in the layout that the format has for
// them; parallel.
void RoundBases(const FormatRow& format, const Buffer<float>& bases,
                int64_t num_bases, int64_t rank, int64_t cols,
                RoundedMatrix* rounded);

// The bases of a layer and kind, or of a group of its experts, and the format
// that they are to have.
struct BasesJob {
  int64_t layer = 0;
  const MatrixKind* kind = nullptr;
  ExpertGroup group;
  const FormatRow* format = nullptr;
  FitShape shape;
  std::function<FitTarget()> load_target;  // with what experts read
};
// Moves bases and alpha of such factors, if it does anything. A is solved for
// afterwards.
using MoveBasesFn = std::function<void(const BasesJob& job, Factors* factors)>;

// Told before each pass; may throw.
using BasesPassFn =
    std::function<void(const BasesJob& job, int64_t pass, int64_t passes)>;
// "layer 3 gate: pass 12 of 40 of its bases", for progress.
std::string RefitText(const BasesJob& job, int64_t pass, int64_t passes);
// By a refit (fit/refit.h) of so many passes, with the bases rounded in each to
// the job's format; of none: nothing moves.
MoveBasesFn RefitBases(int64_t passes, BasesPassFn on_pass);

}  // namespace mobe
