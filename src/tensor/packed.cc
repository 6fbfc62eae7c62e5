#include "tensor/packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"

namespace mobe {
namespace {

constexpr int64_t kMostGroup = 64;
constexpr int64_t kMostQuads = 16;

BFloat16 LoadScale(const void* scales, int64_t at) {
  BFloat16 scale{};
  std::memcpy(&scale, static_cast<const std::byte*>(scales) + at * 2, 2);
  return scale;
}

// A group of one row: its codes less their middle, and their common scale.
struct Group {
  BFloat16 scale{};
  int8_t codes[kMostGroup] = {};
  double error = 0;  // weighted squares
};

// The codes nearest to w for a scale, and then the scale nearest to w for
// these.
Group RoundGroup(const FormatRow& format, const float* w, int64_t count,
                 const float* importance, double scale) {
  Group group;
  const auto weight = [&](int64_t i) {
    return importance == nullptr ? 1.0 : static_cast<double>(importance[i]);
  };
  double products = 0;
  double squares = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double code = std::clamp<double>(std::nearbyint(w[i] / scale),
                                           format.least(), format.most());
    group.codes[i] = static_cast<int8_t>(code);
    products += weight(i) * code * w[i];
    squares += weight(i) * code * code;
  }
  if (squares > 0) scale = products / squares;
  group.scale = ToBFloat16(static_cast<float>(scale));
  const double stored = ToFloat(group.scale);
  for (int64_t i = 0; i < count; ++i) {
    const double off = w[i] - stored * group.codes[i];
    group.error += weight(i) * off * off;
  }
  return group;
}

// The steps, as shares of the largest number, at which a group is rounded. With
// few bits it pays to try: a smaller step clips the largest number for the sake
// of the many, and a negative one gives it the code below -most().
Group EncodeGroup(const FormatRow& format, const float* w, int64_t count,
                  const float* importance) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::abs(w[i]));
  }
  // Below this a scale would be no normal number; the group is stored as zeros.
  if (largest < 0x1p-110f) return {};
  const double step = largest / static_cast<double>(format.most());
  if (format.bits == 8) return RoundGroup(format, w, count, importance, step);
  Group best;
  best.error = HUGE_VAL;
  for (const double share : {1.04, 1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.75}) {
    for (const double sign : {1.0, -1.0}) {
      const Group group =
          RoundGroup(format, w, count, importance, sign * share * step);
      if (group.error < best.error) best = group;
    }
  }
  return best;
}

}  // namespace

PackedSizes PackedSizesOf(const FormatRow& format, int64_t cols) {
  PackedSizes sizes;
  const int64_t quads = (cols + kQuad - 1) / kQuad;
  const int64_t units = (quads + format.quads - 1) / format.quads;
  sizes.quads = units * format.quads;
  sizes.groups = (cols + format.group - 1) / format.group;
  sizes.code_bytes = sizes.quads * kQuadBytes * format.bits / 8;
  return sizes;
}

std::vector<int64_t> CodesShape(const FormatRow& format, int64_t rows,
                                int64_t cols) {
  return {RowBlocks(rows), PackedSizesOf(format, cols).code_bytes};
}

std::vector<int64_t> ScalesShape(const FormatRow& format, int64_t rows,
                                 int64_t cols) {
  return {RowBlocks(rows), PackedSizesOf(format, cols).groups, kPackedRows};
}

void DecodePacked(const WeightView& w, int64_t first, int64_t count,
                  float* out) {
  const FormatRow& format = RowOf(w.format);
  const PackedSizes sizes = PackedSizesOf(format, w.cols);
  const int64_t unit_bytes = format.quads * kQuadBytes * format.bits / 8;
  const int64_t unit_cols = format.quads * kQuad;
  uint8_t codes[kMostQuads * kQuadBytes];
  const int64_t last = first + count;
  for (int64_t row = 0; row < w.rows;) {
    const int64_t stored = w.first_row + row;
    const int64_t block = stored / kPackedRows;
    const int64_t lane = stored % kPackedRows;
    const int64_t lanes = std::min(kPackedRows - lane, w.rows - row);
    const auto* packed =
        static_cast<const uint8_t*>(w.codes) + block * sizes.code_bytes;
    for (int64_t c = first / unit_cols * unit_cols; c < last; c += unit_cols) {
      format.unpack(packed + c / unit_cols * unit_bytes, codes);
      const int64_t begin = std::max(c, first);
      const int64_t end = std::min(c + unit_cols, last);
      for (int64_t l = 0; l < lanes; ++l) {
        for (int64_t j = begin; j < end; ++j) {
          const int64_t at = (j - c) / kQuad * kQuadBytes + (lane + l) * kQuad +
                             (j - c) % kQuad;
          const int64_t scale =
              (block * sizes.groups + j / format.group) * kPackedRows + lane +
              l;
          out[(row + l) * count + j - first] =
              ToFloat(LoadScale(w.scales, scale)) *
              static_cast<float>(codes[at] - kCodeMiddle);
        }
      }
    }
    row += lanes;
  }
}

void EncodePacked(const FormatRow& format, const float* w, int64_t rows,
                  int64_t cols, const float* importance, std::byte* codes,
                  std::byte* scales) {
  const PackedSizes sizes = PackedSizesOf(format, cols);
  std::vector<uint8_t> quads(static_cast<size_t>(sizes.quads * kQuadBytes),
                             kCodeMiddle);
  std::memset(scales, 0, static_cast<size_t>(sizes.scale_bytes()));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < sizes.groups; ++g) {
      const int64_t first = g * format.group;
      const int64_t count = std::min(format.group, cols - first);
      const Group group =
          EncodeGroup(format, w + r * cols + first, count,
                      importance == nullptr ? nullptr : importance + first);
      std::memcpy(scales + (g * kPackedRows + r) * 2, &group.scale, 2);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t c = first + i;
        quads[static_cast<size_t>(c / kQuad * kQuadBytes + r * kQuad +
                                  c % kQuad)] =
            static_cast<uint8_t>(kCodeMiddle + group.codes[i]);
      }
    }
  }
  const int64_t unit = format.quads * kQuadBytes;
  for (int64_t q = 0; q < sizes.quads; q += format.quads) {
    format.pack(quads.data() + q * kQuadBytes,
                reinterpret_cast<uint8_t*>(codes) +
                    q / format.quads * unit * format.bits / 8);
  }
}

}  // namespace mobe
