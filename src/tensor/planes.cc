#include "tensor/planes.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/packed.h"
#include "tensor/packed_bases.h"

namespace mobe {
namespace {

void DecodeMatrix(WeightView view, int64_t first, int64_t count, float* out) {
  const int64_t cols = view.cols;
  while (count > 0) {
    const int64_t col = first % cols;
    // Whole rows together, as they are interleaved.
    const int64_t rows = col == 0 ? std::max<int64_t>(count / cols, 1) : 1;
    const int64_t run = std::min(count, cols - col);
    DecodePacked(view.Rows(first / cols, rows), col, run, out);
    first += rows * run;
    count -= rows * run;
    out += rows * run;
  }
}

void DecodeAllBases(const PackedBases& bases, int64_t first, int64_t count,
                    float* out) {
  while (count > 0) {
    const int64_t row = first / bases.cols;  // of all bases
    const int64_t col = first % bases.cols;
    const int64_t run = std::min(count, bases.cols - col);
    DecodeBases(bases, row / bases.rank, row % bases.rank, col, run, out);
    first += run;
    count -= run;
    out += run;
  }
}

// The matrix that a tensor is packed as: bases that have no layout of their own
// are one of all their rows.
std::vector<int64_t> MatrixShape(const std::vector<int64_t>& shape) {
  if (shape.size() == 2) return shape;
  const auto rows = CheckedMul(static_cast<uint64_t>(shape[0]),
                               static_cast<uint64_t>(shape[1]));
  if (!rows || *rows > INT64_MAX) {
    Fail(ErrorKind::kUnsupported, "{} bases of {} rows are too many", shape[0],
         shape[1]);
  }
  return {static_cast<int64_t>(*rows), shape[2]};
}

bool IsMatrix(const FormatRow& format, const std::vector<int64_t>& shape) {
  return shape.size() == 2 || (shape.size() == 3 && !format.has_bases);
}

// Of a tensor [num_bases, rank, cols].
PackedBases BasesOf(const std::vector<int64_t>& shape, const void* codes,
                    const void* scales) {
  return {codes, scales, shape[0], shape[1], shape[2]};
}

}  // namespace

std::optional<PlaneShapes> PlaneShapesOf(const FormatRow& format,
                                         const std::vector<int64_t>& shape) {
  if (!format.packed()) return std::nullopt;
  if (IsMatrix(format, shape)) {
    const std::vector<int64_t> matrix = MatrixShape(shape);
    return PlaneShapes{CodesShape(format, matrix[0], matrix[1]),
                       ScalesShape(format, matrix[0], matrix[1])};
  }
  if (shape.size() != 3 || shape[0] > kMostPackedBases) return std::nullopt;
  const PackedBases bases = BasesOf(shape, nullptr, nullptr);
  return PlaneShapes{BasesCodesShape(bases), BasesScalesShape(bases)};
}

int64_t PlaneBytes(const FormatRow& format, const std::vector<int64_t>& shape) {
  const PlaneShapes planes = *PlaneShapesOf(format, shape);
  const auto elements = [](const std::vector<int64_t>& dims) {
    int64_t count = 1;
    for (const int64_t dim : dims) count *= dim;
    return count;
  };
  return elements(planes.codes) * DTypeSize(format.codes) +
         elements(planes.scales) * DTypeSize(DType::kBF16);
}

void DecodePlanes(const FormatRow& format, const std::vector<int64_t>& shape,
                  const std::byte* codes, const std::byte* scales,
                  int64_t first, int64_t count, float* out) {
  if (IsMatrix(format, shape)) {
    const std::vector<int64_t> matrix = MatrixShape(shape);
    return DecodeMatrix({format.format, codes, matrix[0], matrix[1], scales},
                        first, count, out);
  }
  DecodeAllBases(BasesOf(shape, codes, scales), first, count, out);
}

}  // namespace mobe
