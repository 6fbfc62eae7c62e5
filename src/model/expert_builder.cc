#include "model/expert_builder.h"

#include <utility>

#include "base/parallel.h"
#include "kernels/expand.h"
#include "kernels/gemm.h"
#include "tensor/packed.h"

namespace mobe {
namespace {

const FormatRow& BuiltFormat(std::optional<NumberFormat> asked,
                             const WeightView& a) {
  const FormatRow& format = RowOf(asked.value_or(a.format));
  const bool stays = format.packed() || format.format == NumberFormat::kF32;
  return stays ? format : RowOf(NumberFormat::kBF16);
}

// Of a matrix [rows, cols]: the numbers, and then the scales, if there are any.
struct BuiltSizes {
  int64_t codes;
  int64_t scales;
  int64_t whole() const { return WholeLines(codes) + WholeLines(scales); }
};

BuiltSizes SizesOf(const FormatRow& format, int64_t rows, int64_t cols) {
  if (!format.packed()) return {rows * cols * DTypeSize(format.codes), 0};
  const PackedSizes sizes = PackedSizesOf(format, cols);
  return {RowBlocks(rows) * sizes.code_bytes,
          RowBlocks(rows) * sizes.scale_bytes()};
}

// Rows and columns of W. `a` is that of any of the experts.
std::pair<int64_t, int64_t> ShapeOf(const MatrixKind& kind, const WeightView& a,
                                    const SharedBases& shared) {
  const int64_t cols = shared.bases.cols;
  return kind.transposed ? std::pair{cols, a.rows} : std::pair{a.rows, cols};
}

// w = A N or its transpose, with N = f(sum alpha B).
void Multiply(const WeightView& a, const StoredBases& bases, const float* alpha,
              Activation f, bool transposed, float* w) {
  thread_local Buffer<float> a_float;
  const float* mixed = MixExpert(bases, alpha, f);
  a_float.Resize(a.rows * a.cols);
  ExpandWeights(a, a_float.data());
  if (transposed) {
    Gemm(Trans::kYes, Trans::kYes, bases.cols, a.rows, a.cols, mixed,
         bases.cols, a_float.data(), a.cols, 0.0f, w, a.rows);
  } else {
    Gemm(Trans::kNo, Trans::kNo, a.rows, bases.cols, a.cols, a_float.data(),
         a.cols, mixed, bases.cols, 0.0f, w, bases.cols);
  }
}

}  // namespace

int64_t BuiltExpertBytes(const LayerWeights& weights,
                         std::optional<NumberFormat> format) {
  int64_t bytes = 0;
  for (const KindMembers& members : kKindMembers) {
    const auto& groups = (*weights.factored).*members.shared;
    if (groups.empty()) continue;
    const WeightView& a = weights.experts.front().*members.matrix;
    const auto [rows, cols] = ShapeOf(members.kind, a, groups.front());
    bytes += SizesOf(BuiltFormat(format, a), rows, cols).whole();
  }
  return bytes;
}

ExpertBuilder::ExpertBuilder(const LayerWeights& weights,
                             std::optional<NumberFormat> format)
    : weights_(weights), format_(format) {
  int64_t at = 0;
  for (const KindMembers& members : kKindMembers) {
    const auto& groups = (*weights.factored).*members.shared;
    if (groups.empty()) continue;
    const WeightView& a = weights.experts.front().*members.matrix;
    const auto [rows, cols] = ShapeOf(members.kind, a, groups.front());
    Kind& kind = kinds_.emplace_back(Kind{&members, {}, rows, cols, at});
    at += SizesOf(BuiltFormat(format, a), rows, cols).whole();
    for (const SharedBases& shared : groups) {
      StoredBases& bases = kind.bases.emplace_back(shared.bases);
      if (!bases.AreProducts()) continue;
      Buffer<float>& product =
          products_.emplace_back(bases.num_bases * bases.rank * bases.cols);
      ExpandBases(bases, product.data());
      bases = StoredBases(BasesView{DType::kF32, product.data(),
                                    bases.num_bases, bases.rank, bases.cols});
    }
  }
}

WeightView ExpertBuilder::BuildMatrix(const Kind& kind, int64_t expert,
                                      std::byte* memory) const {
  const auto& groups = (*weights_.factored).*kind.members->shared;
  const int64_t in_group = std::ssize(weights_.experts) / std::ssize(groups);
  const auto group = static_cast<size_t>(expert / in_group);
  const StoredBases& bases = kind.bases[group];
  const WeightView& a =
      weights_.experts[static_cast<size_t>(expert)].*kind.members->matrix;
  thread_local Buffer<float> built;
  built.Resize(kind.rows * kind.cols);
  Multiply(a, bases,
           groups[group].alpha.data() + expert % in_group * bases.num_bases,
           weights_.factored->activation, kind.members->kind.transposed,
           built.data());
  const FormatRow& format = BuiltFormat(format_, a);
  const BuiltSizes sizes = SizesOf(format, kind.rows, kind.cols);
  WeightView view{format.format, memory, kind.rows, kind.cols};
  if (!format.packed()) {
    StoreFloats(built.data(), built.size(), format.codes, memory);
    return view;
  }
  std::byte* scales = memory + WholeLines(sizes.codes);
  view.scales = scales;
  const PackedSizes block = PackedSizesOf(format, kind.cols);
  for (int64_t row = 0; row < kind.rows; row += kPackedRows) {
    EncodePacked(format, built.data() + row * kind.cols,
                 std::min(kPackedRows, kind.rows - row), kind.cols, nullptr,
                 memory + row / kPackedRows * block.code_bytes,
                 scales + row / kPackedRows * block.scale_bytes());
  }
  return view;
}

std::vector<MlpWeights> ExpertBuilder::Build(
    std::span<const int64_t> experts,
    std::span<std::byte* const> memory) const {
  std::vector<MlpWeights> built;
  for (const int64_t e : experts) {
    built.push_back(weights_.experts[static_cast<size_t>(e)]);
  }
  const int64_t kinds = std::ssize(kinds_);
  ParallelFor(std::ssize(experts) * kinds, [&](int64_t i) {
    const auto e = static_cast<size_t>(i / kinds);
    const Kind& kind = kinds_[static_cast<size_t>(i % kinds)];
    built[e].*kind.members->matrix =
        BuildMatrix(kind, experts[e], memory[e] + kind.at);
  });
  return built;
}

}  // namespace mobe
