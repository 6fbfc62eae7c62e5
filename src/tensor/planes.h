// The two planes of a packed tensor, of either layout: a matrix
// (tensor/packed.h) or the bases of a layer (tensor/packed_bases.h) where the
// format has that; where it has not, bases are a matrix of all their rows.
// Whoever opens, writes or reads such tensors asks here, and knows no layout.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "tensor/format.h"

namespace mobe {

// Codes of FormatRow::codes, scales in BF16.
struct PlaneShapes {
  std::vector<int64_t> codes;
  std::vector<int64_t> scales;
};

// Those of a tensor of a shape; nothing when the format has none: of bases,
// [num_bases, rank, cols], where they are too many, and of what is neither
// bases nor a matrix.
std::optional<PlaneShapes> PlaneShapesOf(const FormatRow& format,
                                         const std::vector<int64_t>& shape);

// Of both planes; only where there are some.
int64_t PlaneBytes(const FormatRow& format, const std::vector<int64_t>& shape);

// out [count] = the elements [first, first + count) of a tensor of that shape,
// read as a flat array. Planes may lie at any address.
void DecodePlanes(const FormatRow& format, const std::vector<int64_t>& shape,
                  const std::byte* codes, const std::byte* scales,
                  int64_t first, int64_t count, float* out);

}  // namespace mobe
