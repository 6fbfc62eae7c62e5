// Tensors that a new checkpoint takes over from a model. FP8 is expanded to
// BF16, without scales, unless it is kept; packed matrices always are.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "io/checkpoint.h"
#include "io/checkpoint_writer.h"

namespace mobe {

// The dtype of what is computed in place of a tensor: its own, if that can be
// written, else BF16.
DType ComputedDType(const TensorView& tensor);

// Appends a tensor to those that will be written, with its scales when it stays
// FP8.
void AddCopy(const TensorView& tensor, bool keep_fp8,
             std::vector<TensorDecl>* tensors);
// Appends all others: those whose names are not `known`.
void AddOtherCopies(const Checkpoint& checkpoint,
                    const std::unordered_set<std::string>& known, bool keep_fp8,
                    std::vector<TensorDecl>* tensors);

// Passes the bytes of a tensor of the model in the dtype of `copy`; lets its
// pages go.
void CopyTensor(const Checkpoint& model, const TensorDecl& copy,
                const ByteSink& sink);

// Whether `copy`, of the same shape, is what CopyTensor makes of a tensor.
bool IsCopy(const TensorView& original, const TensorView& copy);

}  // namespace mobe
