#include "model/build_experts.h"

#include <unistd.h>

#include <fstream>
#include <limits>
#include <string>

#include "base/parallel.h"
#include "base/progress.h"

namespace mobe {
namespace {

// Bytes of all built matrices, or nothing when they don't fit in 64 bits.
std::optional<uint64_t> BuiltBytes(const Weights& weights, DType dtype) {
  std::optional<uint64_t> total = 0;
  for (const LayerWeights& layer : weights.layers) {
    if (!layer.factored) continue;
    const auto experts = static_cast<int64_t>(layer.experts.size());
    const MlpWeights& a = layer.experts.front();
    const int64_t gate[] = {experts, a.gate.rows,
                            layer.factored->gate.bases.cols, DTypeSize(dtype)};
    const int64_t up[] = {experts, a.up.rows, layer.factored->up.bases.cols,
                          DTypeSize(dtype)};
    for (const auto& shape : {std::span(gate), std::span(up)}) {
      const auto bytes = CheckedProduct(shape);
      if (!bytes || !total) return std::nullopt;
      total = CheckedAdd(*total, *bytes);
    }
  }
  return total;
}

bool WantsBuilt(ExpertMode mode, std::optional<uint64_t> bytes) {
  const uint64_t available = AvailableMemory();
  if (mode == ExpertMode::kFused) return false;
  if (mode == ExpertMode::kAuto) return bytes && *bytes <= available / 2;
  if (!bytes || *bytes > available) {
    Fail(ErrorKind::kOutOfMemory,
         "built experts would take {}, but {} of memory are available; run "
         "the model with fused experts",
         bytes ? FormatBytes(static_cast<double>(*bytes)) : "over 2^64 bytes",
         FormatBytes(static_cast<double>(available)));
  }
  return true;
}

// w = A f(sum alpha B) of one expert.
void BuildMatrix(const WeightView& a, const BasesView& bases,
                 const float* alpha, Activation f, float* w) {
  thread_local Buffer<float> mixed;
  thread_local Buffer<float> a_float;
  mixed.Resize(bases.rank * bases.cols);
  Kernels().basis_mix(bases, alpha, 0, mixed.size(), f, mixed.data());
  a_float.Resize(a.rows * a.cols);
  LoadAsFloats(a.dtype, a.data, a_float.size(), a_float.data());
  Gemm(Trans::kNo, Trans::kNo, a.rows, bases.cols, a.cols, a_float.data(),
       a.cols, mixed.data(), bases.cols, 0.0f, w, bases.cols);
}

// Replaces A by W in one kind (gate or up) of all experts of a layer.
void BuildKind(const SharedBases& shared, Activation f, DType dtype,
               WeightView MlpWeights::*kind, std::vector<MlpWeights>* experts,
               Buffer<std::byte>* memory) {
  const auto count = static_cast<int64_t>(experts->size());
  const int64_t rows = (experts->front().*kind).rows;
  const int64_t cols = shared.bases.cols;
  const int64_t bytes = rows * cols * DTypeSize(dtype);
  memory->Resize(count * bytes);
  ParallelFor(count, [&](int64_t e) {
    thread_local Buffer<float> built;
    built.Resize(rows * cols);
    WeightView& view = (*experts)[static_cast<size_t>(e)].*kind;
    BuildMatrix(view, shared.bases,
                shared.alpha.data() + e * shared.bases.num_bases, f,
                built.data());
    std::byte* stored = memory->data() + e * bytes;
    StoreFloats(built.data(), built.size(), dtype, stored);
    view = {dtype, stored, rows, cols};
  });
}

}  // namespace

void BuildExperts(const LoadOptions& options, Weights* weights) {
  const DType dtype =
      options.precision == Precision::kFloat32 ? DType::kF32 : DType::kBF16;
  if (!WantsBuilt(options.experts, BuiltBytes(*weights, dtype))) return;
  for (LayerWeights& layer : weights->layers) {
    if (!layer.factored) continue;
    const FactoredWeights& from = *layer.factored;
    BuildKind(from.gate, from.activation, dtype, &MlpWeights::gate,
              &layer.experts, &weights->owned.emplace_back());
    BuildKind(from.up, from.activation, dtype, &MlpWeights::up, &layer.experts,
              &weights->owned.emplace_back());
    layer.factored.reset();
  }
}

uint64_t AvailableMemory() {
  // MemAvailable counts the page cache that can be dropped, which the mapped
  // checkpoint itself fills; free pages alone would be far too few.
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  uint64_t kibibytes = 0;
  while (meminfo >> key >> kibibytes) {
    if (key == "MemAvailable:") return kibibytes * 1024;
    meminfo.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return static_cast<uint64_t>(sysconf(_SC_AVPHYS_PAGES)) *
         static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace mobe
