// Bases in 8 bits: the m bases of a layer and kind, each [rank, cols], as
// integer codes with a scale for each row, group of 256 columns and basis,
//
//   B_i[r, c] = scale[r, c / 256, i] (code[r, c, i] - kCodeMiddle),
//
// interleaved so that a vector of integer products is four adjacent bases at 16
// adjacent columns of a row, which VNNI multiplies by a quad of alphas, the
// same for all columns; and so that all bases of a row lie together, as a mix
// reads them:
//
//   codes   U8    [rank, cols / 16, m / 4, 16, 4]
//   scales  BF16  [rank, cols / 256, m]
//
// All divisions round up. What lies beyond the bases has the code of zero. 256
// columns, since a mix rounds each expert's alphas anew for every group: with
// fewer that takes longer, and with more the scales follow the numbers less.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/packed.h"

namespace mobe {

// Columns in a block and in a group, bases in a quad: kQuad.
inline constexpr int64_t kBasesBlock = 16;
inline constexpr int64_t kBasesGroup = 256;
// More bases than this stay as they are: a sum of 127 * 16256 for each would
// not fit in 32 bits for more than 1040 (kernels/packed_mix.h).
inline constexpr int64_t kMostPackedBases = 1024;

// Does not own. The planes may lie at any address.
struct PackedBases {
  const void* codes = nullptr;
  const void* scales = nullptr;
  int64_t num_bases = 0;
  int64_t rank = 0;
  int64_t cols = 0;

  int64_t quads() const { return (num_bases + kQuad - 1) / kQuad; }
  int64_t blocks() const { return (cols + kBasesBlock - 1) / kBasesBlock; }
  int64_t groups() const { return (cols + kBasesGroup - 1) / kBasesGroup; }
  // Of the codes: bytes of a block of columns, and of a row.
  int64_t block_bytes() const { return quads() * kBasesBlock * kQuad; }
  int64_t row_bytes() const { return blocks() * block_bytes(); }
  // Bytes of the scales of a group, and of a row.
  int64_t group_scale_bytes() const { return num_bases * 2; }
  int64_t row_scale_bytes() const { return groups() * group_scale_bytes(); }
  int64_t bytes() const { return rank * (row_bytes() + row_scale_bytes()); }

  // The codes and scales of the groups of a row from `group` on.
  const uint8_t* Codes(int64_t row, int64_t group) const {
    return static_cast<const uint8_t*>(codes) + row * row_bytes() +
           group * (kBasesGroup / kBasesBlock) * block_bytes();
  }
  const std::byte* Scales(int64_t row, int64_t group) const {
    return static_cast<const std::byte*>(scales) + row * row_scale_bytes() +
           group * group_scale_bytes();
  }
};

// The shapes of the planes, as tensors: [rank, blocks, bytes] and [rank,
// groups, num_bases].
std::vector<int64_t> BasesCodesShape(const PackedBases& bases);
std::vector<int64_t> BasesScalesShape(const PackedBases& bases);

// out [count] = the columns [first, first + count) of a row of basis i. The
// specification of what the codes mean.
void DecodeBases(const PackedBases& bases, int64_t i, int64_t row,
                 int64_t first, int64_t count, float* out);

// Rounds one row of all bases, w [num_bases, cols], to the nearest codes and
// writes its part of the planes, row_bytes() and row_scale_bytes() of `sizes`,
// which needs no planes. The scale of a group is that of its largest number.
// Numbers must be finite.
void EncodeBasesRow(const PackedBases& sizes, const float* w, std::byte* codes,
                    std::byte* scales);

}  // namespace mobe
