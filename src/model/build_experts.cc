#include "model/build_experts.h"

#include <span>
#include <string>
#include <utility>

#include "base/limits.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "kernels/expand.h"

namespace mobe {
namespace {

// Bytes of all built matrices, or nothing when they don't fit in 64 bits.
std::optional<uint64_t> BuiltBytes(const Weights& weights, DType dtype) {
  std::optional<uint64_t> total = 0;
  for (const LayerWeights& layer : weights.layers) {
    if (!layer.factored) continue;
    for (const KindMembers& members : kKindMembers) {
      const auto& groups = (*layer.factored).*members.shared;
      if (groups.empty()) continue;
      const int64_t shape[] = {static_cast<int64_t>(layer.experts.size()),
                               (layer.experts.front().*members.matrix).rows,
                               groups.front().bases.whole.cols,
                               DTypeSize(dtype)};
      const auto bytes = CheckedProduct(shape);
      if (!bytes || !total) return std::nullopt;
      total = CheckedAdd(*total, *bytes);
    }
  }
  return total;
}

bool WantsBuilt(ExpertMode mode, std::optional<uint64_t> bytes) {
  if (mode == ExpertMode::kFused) return false;
  const MemoryBound bound = ReadLimits().Memory();
  const auto available = static_cast<uint64_t>(bound.bytes);
  if (mode == ExpertMode::kAuto) return bytes && *bytes <= available / 2;
  if (!bytes || *bytes > available) {
    Fail(ErrorKind::kOutOfMemory,
         "built experts would take {}, but {} of memory are available (limit: "
         "{}); run the model with fused experts",
         bytes ? FormatBytes(static_cast<double>(*bytes)) : "over 2^64 bytes",
         FormatBytes(static_cast<double>(available)), bound.whose);
  }
  return true;
}

// w = A f(sum alpha B) of one expert, or its transpose.
void BuildMatrix(const WeightView& a, const BasesView& bases,
                 const float* alpha, Activation f, bool transposed, float* w) {
  thread_local Buffer<float> mixed;
  thread_local Buffer<float> a_float;
  mixed.Resize(bases.rank * bases.cols);
  Kernels().basis_mix(bases, alpha, 0, mixed.size(), f, mixed.data());
  a_float.Resize(a.rows * a.cols);
  ExpandWeights(a, a_float.data());
  if (transposed) {
    Gemm(Trans::kYes, Trans::kYes, bases.cols, a.rows, a.cols, mixed.data(),
         bases.cols, a_float.data(), a.cols, 0.0f, w, a.rows);
  } else {
    Gemm(Trans::kNo, Trans::kNo, a.rows, bases.cols, a.cols, a_float.data(),
         a.cols, mixed.data(), bases.cols, 0.0f, w, bases.cols);
  }
}

// Replaces A by W in one kind of the experts that share bases.
void BuildKind(const SharedBases& shared, Activation f, DType dtype,
               const KindMembers& members, std::span<MlpWeights> experts,
               Buffer<std::byte>* memory) {
  BasesView bases = shared.bases.whole;
  Buffer<float> products;
  if (shared.bases.AreProducts()) {
    products.Resize(bases.num_bases * bases.rank * bases.cols);
    ExpandBases(shared.bases, products.data());
    bases.data = products.data();
  }
  const bool transposed = members.kind.transposed;
  const auto count = static_cast<int64_t>(experts.size());
  int64_t rows = (experts.front().*members.matrix).rows;
  int64_t cols = bases.cols;
  if (transposed) std::swap(rows, cols);
  const int64_t bytes = rows * cols * DTypeSize(dtype);
  memory->Resize(count * bytes);
  ParallelFor(count, [&](int64_t e) {
    thread_local Buffer<float> built;
    built.Resize(rows * cols);
    WeightView& view = experts[static_cast<size_t>(e)].*members.matrix;
    BuildMatrix(view, bases, shared.alpha.data() + e * bases.num_bases, f,
                transposed, built.data());
    std::byte* stored = memory->data() + e * bytes;
    StoreFloats(built.data(), built.size(), dtype, stored);
    view = {*FormatOf(dtype), stored, rows, cols};
  });
}

}  // namespace

void BuildExperts(const LoadOptions& options, Weights* weights) {
  const DType dtype =
      options.precision == Precision::kFloat32 ? DType::kF32 : DType::kBF16;
  if (!WantsBuilt(options.experts, BuiltBytes(*weights, dtype))) return;
  for (LayerWeights& layer : weights->layers) {
    if (!layer.factored) continue;
    for (const KindMembers& members : kKindMembers) {
      const auto& groups = (*layer.factored).*members.shared;
      std::span<MlpWeights> rest(layer.experts);
      for (const SharedBases& group : groups) {
        const size_t count = layer.experts.size() / groups.size();
        BuildKind(group, layer.factored->activation, dtype, members,
                  rest.first(count), &weights->owned.emplace_back());
        rest = rest.subspan(count);
      }
    }
    layer.factored.reset();
  }
}

}  // namespace mobe
