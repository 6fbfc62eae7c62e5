#include "compress/packing.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/dtype.h"
#include "base/parallel.h"
#include "compress/embedding_norm.h"
#include "io/checkpoint.h"
#include "io/fp8.h"
#include "tensor/packed.h"
#include "tensor/packed_bases.h"
#include "tensor/planes.h"

namespace mobe {
namespace {

// Pieces of a tensor that are encoded together and then written: a bound on
// memory, and enough for every thread.
constexpr int64_t kPieces = 64;

// What a tensor is encoded in: 16 rows of a matrix, or a row of all bases.
struct Pieces {
  int64_t count;
  int64_t code_bytes, scale_bytes;  // of one
  void (*encode)(const TensorView& tensor, const PackedPlane& plane,
                 const float* importance, int64_t piece, std::byte* codes,
                 std::byte* scales, Buffer<float>* given,
                 Buffer<float>* stored);
};

void EncodeRows(const TensorView& tensor, const PackedPlane& plane,
                const float* importance, int64_t piece, std::byte* codes,
                std::byte* scales, Buffer<float>* given,
                Buffer<float>* stored) {
  const int64_t cols = tensor.shape.back();
  const int64_t row = piece * kPackedRows;
  const int64_t rows = std::min(kPackedRows, tensor.elements() / cols - row);
  given->Resize(rows * cols);
  stored->Resize(rows * cols);
  LoadRounded(tensor, plane.dtype, row * cols, rows * cols, given->data());
  EncodePacked(*plane.format, given->data(), rows, cols, importance, codes,
               scales);
  DecodePacked({plane.format->format, codes, rows, cols, scales}, 0, cols,
               stored->data());
}

void EncodeBases(const TensorView& tensor, const PackedPlane& plane,
                 const float* /*importance*/, int64_t piece, std::byte* codes,
                 std::byte* scales, Buffer<float>* given,
                 Buffer<float>* stored) {
  const int64_t m = tensor.shape[0];
  const int64_t cols = tensor.shape[2];
  const PackedBases row{codes, scales, m, 1, cols};
  given->Resize(m * cols);
  stored->Resize(m * cols);
  for (int64_t i = 0; i < m; ++i) {
    LoadRounded(tensor, plane.dtype, (i * tensor.shape[1] + piece) * cols, cols,
                given->data() + i * cols);
  }
  EncodeBasesRow(row, given->data(), codes, scales);
  for (int64_t i = 0; i < m; ++i) {
    DecodeBases(row, i, 0, 0, cols, stored->data() + i * cols);
  }
}

Pieces PiecesOf(const TensorView& tensor, const FormatRow& format) {
  if (tensor.shape.size() == 2 || !format.has_bases) {
    const int64_t cols = tensor.shape.back();
    const PackedSizes sizes = PackedSizesOf(format, cols);
    return {RowBlocks(tensor.elements() / cols), sizes.code_bytes,
            sizes.scale_bytes(), EncodeRows};
  }
  const PackedBases bases{nullptr, nullptr, tensor.shape[0], tensor.shape[1],
                          tensor.shape[2]};
  return {bases.rank, bases.row_bytes(), bases.row_scale_bytes(), EncodeBases};
}

}  // namespace

Json PartNames(const std::vector<const QuantPart*>& parts) {
  Json names = Json::array();
  for (const QuantPart* part : parts) names.push_back(part->name);
  return names;
}

Json RuleJson(const PackRule& rule) {
  Json json = {{"format", rule.format->name}, {"parts", PartNames(rule.parts)}};
  for (const PartFormat& one : rule.others) {
    json["part_formats"].push_back(TextOf(one));
  }
  return json;
}

Packing PackTensors(const std::vector<TensorSpec>& specs,
                    const FormatOfFn& format_of,
                    std::vector<TensorDecl>* tensors) {
  std::unordered_map<std::string_view, const TensorSpec*> known;
  for (const TensorSpec& spec : specs) known[spec.name] = &spec;
  Packing packing;
  std::vector<TensorDecl> all;
  const auto add = [&](TensorDecl decl, PackedPlane plane) {
    packing.planes[decl.name] = std::move(plane);
    all.push_back(std::move(decl));
  };
  for (TensorDecl& tensor : *tensors) {
    const auto spec = known.find(tensor.name);
    const FormatRow* format =
        spec == known.end() ? nullptr : format_of(*spec->second);
    if (format == nullptr) {
      all.push_back(std::move(tensor));
      continue;
    }
    packing.formats.insert(format->name);
    PlaneShapes shapes = *PlaneShapesOf(*format, spec->second->shape);
    const auto plane = [&](bool is_scales) {
      return PackedPlane{*spec->second, tensor.dtype, format, is_scales};
    };
    add({PackedName(tensor.name, *format), format->codes,
         std::move(shapes.codes)},
        plane(false));
    add({PackedScalesName(tensor.name, *format), DType::kBF16,
         std::move(shapes.scales)},
        plane(true));
  }
  *tensors = std::move(all);
  return packing;
}

void PassFloats(const Buffer<float>& numbers, DType dtype,
                const ByteSink& sink) {
  Buffer<std::byte> stored(numbers.size() * DTypeSize(dtype));
  StoreFloats(numbers.data(), numbers.size(), dtype, stored.data());
  sink({stored.data(), static_cast<size_t>(stored.size())});
}

void LoadRounded(const TensorView& tensor, DType dtype, int64_t first,
                 int64_t count, float* numbers) {
  LoadFloats(tensor, first, count, numbers);
  if (tensor.dtype == dtype) return;
  thread_local Buffer<std::byte> stored;
  stored.Resize(count * DTypeSize(dtype));
  StoreFloats(numbers, count, dtype, stored.data());
  LoadAsFloats(dtype, stored.data(), count, numbers);
}

bool PlaneWriter::Write(const TensorDecl& decl, const ByteSink& sink) {
  const auto found = packing_.planes.find(decl.name);
  if (found == packing_.planes.end()) return false;
  const PackedPlane& plane = found->second;
  const auto pass_scales = [&] {
    sink({scales_.data(), static_cast<size_t>(scales_.size())});
    return true;
  };
  if (plane.is_scales && encoded_ == plane.spec.name) return pass_scales();
  const TensorView& tensor = find_(plane.spec);
  if (tensor.packed == plane.format && tensor.dtype == plane.dtype) {
    sink(plane.is_scales ? tensor.scales->data : tensor.data);
    return true;
  }
  if (plane.is_scales) {  // a job that goes on may begin behind the codes
    Encode(tensor, plane, nullptr);
    return pass_scales();
  }
  const Loss loss = Encode(tensor, plane, sink);
  AddPackedPart(PackedPartOf(plane.spec, *plane.format,
                             tensor.elements() * DTypeSize(plane.dtype), loss),
                &parts_);
  return true;
}

Loss PlaneWriter::Take(const TensorView& tensor, const PackedPlane& plane,
                       const RoundedMatrix& rounded, const ByteSink& sink) {
  encoded_ = plane.spec.name;
  scales_.CopyFrom(rounded.scales);
  if (sink) {
    sink({rounded.codes.data(), static_cast<size_t>(rounded.codes.size())});
  }
  Loss loss;
  if (rounded.given.size() > 0) {
    loss.Add(rounded.given.data(), rounded.values.data(), rounded.given.size());
    return loss;
  }
  Buffer<float> given(tensor.elements());
  LoadRounded(tensor, plane.dtype, 0, given.size(), given.data());
  loss.Add(given.data(), rounded.values.data(), given.size());
  return loss;
}

Loss PlaneWriter::EncodeInNorm(const TensorView& tensor,
                               const PackedPlane& plane,
                               const RoundingNorm& norm, const ByteSink& sink) {
  const int64_t cols = tensor.shape.back();
  const int64_t rows = tensor.elements() / cols;
  const int64_t scale_bytes = PackedSizesOf(*plane.format, cols).scale_bytes();
  encoded_ = plane.spec.name;
  scales_.Resize(RowBlocks(rows) * scale_bytes);
  Buffer<float> given;
  RoundedMatrix rounded;
  Loss loss;
  constexpr int64_t kRows = kPieces * kPackedRows;
  for (int64_t first = 0; first < rows; first += kRows) {
    const int64_t count = std::min(kRows, rows - first);
    given.Resize(count * cols);
    LoadRounded(tensor, plane.dtype, first * cols, given.size(), given.data());
    RoundWithFeedback(*plane.format, given.data(), count, cols, norm, &rounded);
    std::copy(rounded.scales.begin(), rounded.scales.end(),
              scales_.data() + first / kPackedRows * scale_bytes);
    loss.Add(given.data(), rounded.values.data(), given.size());
    if (sink) {
      sink({rounded.codes.data(), static_cast<size_t>(rounded.codes.size())});
    }
  }
  return loss;
}

Loss PlaneWriter::Encode(const TensorView& tensor, const PackedPlane& plane,
                         const ByteSink& sink) {
  const RoundedMatrix* rounded = rounded_ ? rounded_(plane.spec) : nullptr;
  if (rounded != nullptr) return Take(tensor, plane, *rounded, sink);
  if (plane.spec.role == Role::kEmbedding) {
    const RoundingNorm norm = EmbeddingNorm(model_, {});
    if (norm.moment.size() > 0) return EncodeInNorm(tensor, plane, norm, sink);
  }
  Buffer<float> importance;
  if (importance_) importance = importance_(plane.spec);
  const float* weights = importance.size() == 0 ? nullptr : importance.data();
  const Pieces pieces = PiecesOf(tensor, *plane.format);
  encoded_ = plane.spec.name;
  scales_.Resize(pieces.count * pieces.scale_bytes);
  codes_.Resize(kPieces * pieces.code_bytes);
  std::vector<Loss> losses(static_cast<size_t>(pieces.count));
  for (int64_t first = 0; first < pieces.count; first += kPieces) {
    const int64_t count = std::min(kPieces, pieces.count - first);
    ParallelFor(count, [&](int64_t i) {
      thread_local Buffer<float> given;
      thread_local Buffer<float> stored;
      pieces.encode(tensor, plane, weights, first + i,
                    codes_.data() + i * pieces.code_bytes,
                    scales_.data() + (first + i) * pieces.scale_bytes, &given,
                    &stored);
      losses[static_cast<size_t>(first + i)].Add(given.data(), stored.data(),
                                                 given.size());
    });
    if (sink) {
      sink({codes_.data(), static_cast<size_t>(count * pieces.code_bytes)});
    }
  }
  Loss total;
  for (const Loss& loss : losses) total.Add(loss);
  return total;
}

}  // namespace mobe
