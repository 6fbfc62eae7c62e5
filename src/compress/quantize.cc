#include "compress/quantize.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "compress/write_model.h"
#include "io/fp8.h"
#include "mobe/copy_tensors.h"
#include "mobe/packed_model.h"
#include "mobe/tensors.h"
#include "tensor/packed.h"
#include "tensor/packed_bases.h"
#include "tensor/planes.h"

namespace mobe {
namespace {

// Pieces of a tensor that are encoded together and then written: a bound on
// memory, and enough for every thread.
constexpr int64_t kPieces = 64;

// The format that a tensor is to have; null when it stays as it is.
const FormatRow* FormatFor(const TensorSpec& spec,
                           const QuantizeOptions& options) {
  const QuantPart* part = QuantPartOf(spec);
  if (part == nullptr) return nullptr;
  const bool all = options.parts.empty();
  if (!all && std::ranges::count(options.parts, part) == 0) return nullptr;
  const FormatRow* int8 = &RowOf(NumberFormat::kInt8);
  const bool is_end =
      spec.role == Role::kEmbedding || spec.role == Role::kOutput;
  if (all && is_end && options.format->bits < 8) return int8;
  if (PlaneShapesOf(*options.format, spec.shape)) return options.format;
  return PlaneShapesOf(*int8, spec.shape) ? int8 : nullptr;
}

// Squares of what was lost and of what was there.
struct Loss {
  double error = 0;
  double square = 0;
};

// What a tensor is encoded in: 16 rows of a matrix, or a row of all bases.
struct Pieces {
  int64_t count;
  int64_t code_bytes, scale_bytes;  // of one
  void (*encode)(const TensorView& tensor, const FormatRow& format,
                 int64_t piece, std::byte* codes, std::byte* scales,
                 Buffer<float>* given, Buffer<float>* stored);
};

void EncodeRows(const TensorView& tensor, const FormatRow& format,
                int64_t piece, std::byte* codes, std::byte* scales,
                Buffer<float>* given, Buffer<float>* stored) {
  const int64_t cols = tensor.shape[1];
  const int64_t row = piece * kPackedRows;
  const int64_t rows = std::min(kPackedRows, tensor.shape[0] - row);
  given->Resize(rows * cols);
  stored->Resize(rows * cols);
  LoadFloats(tensor, row * cols, rows * cols, given->data());
  EncodePacked(format, given->data(), rows, cols, nullptr, codes, scales);
  DecodePacked({format.format, codes, rows, cols, scales}, 0, cols,
               stored->data());
}

void EncodeBases(const TensorView& tensor, const FormatRow& /*format*/,
                 int64_t piece, std::byte* codes, std::byte* scales,
                 Buffer<float>* given, Buffer<float>* stored) {
  const int64_t m = tensor.shape[0];
  const int64_t cols = tensor.shape[2];
  const PackedBases row{codes, scales, m, 1, cols};
  given->Resize(m * cols);
  stored->Resize(m * cols);
  for (int64_t i = 0; i < m; ++i) {
    LoadFloats(tensor, (i * tensor.shape[1] + piece) * cols, cols,
               given->data() + i * cols);
  }
  EncodeBasesRow(row, given->data(), codes, scales);
  for (int64_t i = 0; i < m; ++i) {
    DecodeBases(row, i, 0, 0, cols, stored->data() + i * cols);
  }
}

Pieces PiecesOf(const TensorView& tensor, const FormatRow& format) {
  if (tensor.shape.size() == 2) {
    const PackedSizes sizes = PackedSizesOf(format, tensor.shape[1]);
    return {RowBlocks(tensor.shape[0]), sizes.code_bytes, sizes.scale_bytes(),
            EncodeRows};
  }
  const PackedBases bases{nullptr, nullptr, tensor.shape[0], tensor.shape[1],
                          tensor.shape[2]};
  return {bases.rank, bases.row_bytes(), bases.row_scale_bytes(), EncodeBases};
}

// Encodes tensors one after the other and remembers the scales of the last,
// which are written behind its codes.
class Encoder {
 public:
  explicit Encoder(const OpenedModel& model) : model_(model) {}

  // Passes the codes of a tensor in pieces, unless `sink` is null.
  Loss Encode(const TensorView& tensor, const FormatRow& format,
              const ByteSink& sink) {
    CheckFinite(model_, tensor);
    const Pieces pieces = PiecesOf(tensor, format);
    scales_of_ = &tensor;
    scales_.Resize(pieces.count * pieces.scale_bytes);
    codes_.Resize(kPieces * pieces.code_bytes);
    std::vector<Loss> losses(static_cast<size_t>(pieces.count));
    for (int64_t first = 0; first < pieces.count; first += kPieces) {
      const int64_t count = std::min(kPieces, pieces.count - first);
      ParallelFor(count, [&](int64_t i) {
        losses[static_cast<size_t>(first + i)] =
            EncodePiece(tensor, format, pieces, first + i,
                        codes_.data() + i * pieces.code_bytes,
                        scales_.data() + (first + i) * pieces.scale_bytes);
      });
      if (sink) {
        sink({codes_.data(), static_cast<size_t>(count * pieces.code_bytes)});
      }
    }
    Loss total;
    for (const Loss& loss : losses) {
      total.error += loss.error;
      total.square += loss.square;
    }
    return total;
  }

  std::span<const std::byte> ScalesOf(const TensorView& tensor,
                                      const FormatRow& format) {
    // A job that goes on may begin between codes and scales.
    if (scales_of_ != &tensor) Encode(tensor, format, nullptr);
    return {scales_.data(), static_cast<size_t>(scales_.size())};
  }

 private:
  static Loss EncodePiece(const TensorView& tensor, const FormatRow& format,
                          const Pieces& pieces, int64_t piece, std::byte* codes,
                          std::byte* scales) {
    thread_local Buffer<float> given;
    thread_local Buffer<float> stored;
    pieces.encode(tensor, format, piece, codes, scales, &given, &stored);
    Loss loss;
    for (int64_t i = 0; i < given.size(); ++i) {
      const double value = given[i];
      loss.error += (value - stored[i]) * (value - stored[i]);
      loss.square += value * value;
    }
    return loss;
  }

  const OpenedModel& model_;
  const TensorView* scales_of_ = nullptr;
  Buffer<std::byte> codes_;
  Buffer<std::byte> scales_;
};

// A tensor that is written in place of one of the model.
struct Plane {
  const TensorView* tensor;
  const FormatRow* format;  // null: the tensor's own bytes
  bool is_scales;
};

void CheckParts(const OpenedModel& model, const QuantizeOptions& options) {
  bool any = false;
  for (const TensorSpec& spec : model.tensors) {
    const FormatRow* format = FormatFor(spec, options);
    const TensorView& tensor = model.checkpoint.At(spec.name);
    if (format == nullptr || tensor.packed == format) continue;
    if (tensor.packed != nullptr) {
      Fail(ErrorKind::kUserInput,
           "{}: tensor {} is {} already; quantise the model that this one was "
           "made from",
           model.checkpoint.folder().string(), spec.name, tensor.packed->name);
    }
    any = true;
  }
  if (any) return;
  Fail(ErrorKind::kUserInput,
       "{}: has no matrix left to quantise in the parts that were asked for",
       model.checkpoint.folder().string());
}

Json OptionsJson(const QuantizeOptions& options) {
  Json parts = Json::array();
  for (const QuantPart* part : options.parts) parts.push_back(part->name);
  return {{"command", "quantize"},
          {"mobe", MOBE_VERSION},
          {"format", options.format->name},
          {"parts", parts},
          {"shard_bytes", options.shard_bytes}};
}

}  // namespace

std::optional<QuantizeReport> Quantize(const OpenedModel& model,
                                       const std::filesystem::path& out,
                                       const QuantizeOptions& options,
                                       const ProgressFn& progress) {
  CheckParts(model, options);
  WriteJob job;
  std::unordered_map<std::string, Plane> planes;
  std::unordered_set<std::string> known;
  std::set<std::string> formats;
  const auto add = [&](TensorDecl decl, Plane plane) {
    planes[decl.name] = plane;
    job.tensors.push_back(std::move(decl));
  };
  const auto add_packed = [&](const std::string& name, const TensorView& tensor,
                              const FormatRow& format, bool encode) {
    const FormatRow* encoder = encode ? &format : nullptr;
    PlaneShapes shapes = *PlaneShapesOf(format, tensor.shape);
    formats.insert(format.name);
    add({PackedName(name, format), format.codes, std::move(shapes.codes)},
        {&tensor, encoder, false});
    add({PackedScalesName(name, format), DType::kBF16,
         std::move(shapes.scales)},
        {encode ? &tensor : tensor.scales, encoder, true});
  };
  for (const TensorSpec& spec : model.tensors) {
    const TensorView& tensor = model.checkpoint.At(spec.name);
    known.insert(spec.name);
    if (tensor.packed != nullptr) {
      add_packed(spec.name, tensor, *tensor.packed, /*encode=*/false);
    } else if (const FormatRow* format = FormatFor(spec, options)) {
      add_packed(spec.name, tensor, *format, /*encode=*/true);
    } else {
      AddCopy(tensor, /*keep_fp8=*/false, &job.tensors);
    }
  }
  AddOtherCopies(model.checkpoint, known, /*keep_fp8=*/false, &job.tensors);

  QuantizeReport report;
  Loss total;
  Encoder encoder(model);
  job.source = [&](const TensorDecl& decl, const ByteSink& sink) {
    const auto found = planes.find(decl.name);
    if (found == planes.end()) {
      CopyTensor(model.checkpoint, decl, sink);
      return;
    }
    const auto& [tensor, format, is_scales] = found->second;
    if (format == nullptr) {
      sink(tensor->data);
    } else if (is_scales) {
      sink(encoder.ScalesOf(*tensor, *format));
    } else {
      const Loss loss = encoder.Encode(*tensor, *format, sink);
      const double error =
          loss.square > 0 ? std::sqrt(loss.error / loss.square) : 0;
      ++report.matrices;
      total.error += loss.error;
      total.square += loss.square;
      if (error > report.worst_error) {
        report.worst_error = error;
        report.worst = tensor->name;
      }
    }
    model.checkpoint.Evict(*tensor);
  };
  job.options = OptionsJson(options);
  job.shard_bytes = options.shard_bytes;
  job.written = model.tensors;
  job.config = ConfigWithoutFp8(PackedConfig(model, formats));
  job.stop = options.stop;
  report.bytes_in = model.checkpoint.bytes();
  for (const TensorDecl& tensor : job.tensors) {
    report.bytes_out += tensor.bytes();
  }
  if (!WriteModel(model, out, job, progress)) return std::nullopt;
  report.error = total.square > 0 ? std::sqrt(total.error / total.square) : 0;
  return report;
}

}  // namespace mobe
