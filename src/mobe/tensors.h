// Between checkpoints and the fit: expert matrices and factors in float32.
#pragma once

#include <vector>

#include "base/spread.h"
#include "fit/fit.h"
#include "mobe/open_model.h"

namespace mobe {

// What reading all of a tensor of floats shows.
struct TensorScan {
  // Index of the first element that is infinite or NaN, where the scan ends; -1
  // when there is none.
  int64_t first_not_finite = -1;
  // Of the longest run of zeros, in whole pieces of 4096 elements and the rest
  // at the end.
  int64_t zero_bytes = 0;
};
TensorScan ScanTensor(const TensorView& tensor);
// Fails with kCorruptFile, naming file, tensor and element, when an element is
// not finite.
TensorScan CheckFinite(const OpenedModel& model, const TensorView& tensor);

// The tensors of a model in the order in which they are written: what each
// layer's experts share, and then those of one expert behind one another, so
// that an expert is one read for who streams it (model/expert_store.h), and one
// piece of work for who rounds it by a text.
std::vector<TensorSpec> ExpertByExpert(std::vector<TensorSpec> tensors);

// The dtype of what is computed in place of the experts of a layer and kind: of
// all factors, as they are in one file and kernels run them together. That of
// the experts; float32, which holds every other, where theirs differ.
DType FactorDType(const OpenedModel& model, int64_t layer,
                  const MatrixKind& kind);

// Reads one expert's dense matrix as the fit sees it, [expert_size, hidden]:
// down is transposed. `matrix` has room for it.
void LoadMatrix(const OpenedModel& model, int64_t layer, const MatrixKind& kind,
                int64_t expert, float* matrix);

// Reads all experts' matrices of one layer and kind of a plain layer, as
// LoadMatrix does. Fails with kCorruptFile, naming file and tensor, when a
// weight is not finite.
FitTarget LoadTarget(const OpenedModel& model, int64_t layer,
                     const MatrixKind& kind);

// The same for the experts of a group; the scale is that of all experts.
FitTarget LoadTarget(const OpenedModel& model, int64_t layer,
                     const MatrixKind& kind, const ExpertGroup& group);

// The scale of a target (fit.h) from that of each expert's matrix, in order.
double ScaleOf(const std::vector<Spread>& experts);

// Reads what the experts of a group share: all of Factors but A. Rows of alpha
// are the group's experts.
Factors LoadShared(const OpenedModel& model, int64_t layer,
                   const MatrixKind& kind, const ExpertGroup& group);

// What one expert's A and those stand for, as LoadMatrix reads it.
void BuildMatrix(const OpenedModel& model, int64_t layer,
                 const MatrixKind& kind, const ExpertGroup& group,
                 const Factors& shared, int64_t expert, float* matrix);

}  // namespace mobe
