#include "mobe/copy_tensors.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "base/matrix.h"
#include "io/fp8.h"

namespace mobe {
namespace {

bool SameBytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

// Calls use(first element, bytes) for the tensor in another dtype, piece by
// piece, until it returns false.
void ForEachPiece(
    const TensorView& tensor, DType dtype,
    const std::function<bool(int64_t, std::span<const std::byte>)>& use) {
  constexpr int64_t kPiece = 1 << 16;
  Buffer<float> values(std::min(kPiece, tensor.elements()));
  Buffer<std::byte> stored(values.size() * DTypeSize(dtype));
  for (int64_t first = 0; first < tensor.elements(); first += kPiece) {
    const int64_t count = std::min(kPiece, tensor.elements() - first);
    LoadFloats(tensor, first, count, values.data());
    StoreFloats(values.data(), count, dtype, stored.data());
    const auto size = static_cast<size_t>(count * DTypeSize(dtype));
    if (!use(first, {stored.data(), size})) return;
  }
}

}  // namespace

DType ComputedDType(const TensorView& tensor) {
  const bool narrow = DTypeSize(tensor.dtype) < 2 || tensor.code_bits != 0;
  return narrow ? DType::kBF16 : tensor.dtype;
}

void AddCopy(const TensorView& tensor, bool keep_fp8,
             std::vector<TensorDecl>* tensors) {
  tensors->push_back(tensor);
  if (tensor.scales == nullptr) return;
  if (keep_fp8 && tensor.packed == nullptr && tensor.code_bits == 0) {
    tensors->push_back(*tensor.scales);
  } else {
    tensors->back().dtype = ComputedDType(tensor);
  }
}

void AddOtherCopies(const Checkpoint& checkpoint,
                    const std::unordered_set<std::string>& known, bool keep_fp8,
                    std::vector<TensorDecl>* tensors) {
  for (const TensorView* tensor : checkpoint.tensors()) {
    // Scales come with what they are of.
    if (tensor->scaled != nullptr || known.contains(tensor->name)) continue;
    AddCopy(*tensor, keep_fp8, tensors);
  }
}

void CopyTensor(const Checkpoint& model, const TensorDecl& copy,
                const ByteSink& sink) {
  const TensorView& tensor = model.At(copy.name);
  if (tensor.dtype == copy.dtype && tensor.row_stride == 0) {
    sink(tensor.data);
  } else {
    ForEachPiece(tensor, copy.dtype, [&](int64_t, auto piece) {
      sink(piece);
      return true;
    });
  }
  model.Evict(tensor);
}

bool IsCopy(const TensorView& original, const TensorView& copy) {
  if (original.dtype == copy.dtype && original.row_stride == 0 &&
      copy.row_stride == 0) {
    return SameBytes(original.data, copy.data);
  }
  bool equal = true;
  Buffer<float> values;
  Buffer<std::byte> stored;
  ForEachPiece(original, copy.dtype, [&](int64_t first, auto piece) {
    const int64_t size = DTypeSize(copy.dtype);
    auto there =
        copy.data.subspan(static_cast<size_t>(first * size), piece.size());
    if (copy.row_stride != 0) {
      values.Resize(static_cast<int64_t>(piece.size()) / size);
      stored.Resize(static_cast<int64_t>(piece.size()));
      LoadFloats(copy, first, values.size(), values.data());
      StoreFloats(values.data(), values.size(), copy.dtype, stored.data());
      there = {stored.data(), piece.size()};
    }
    equal = SameBytes(piece, there);
    return equal;
  });
  return equal;
}

}  // namespace mobe
