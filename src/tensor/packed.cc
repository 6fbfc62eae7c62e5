#include "tensor/packed.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"

namespace mobe {
namespace {

constexpr int64_t kMostQuads = 8;
// Of a group's largest number: below the first the scale would be no normal
// number, and the group is stored as zeros; outside of the other two squares of
// errors would be none, and no scales are compared.
constexpr float kZero = 0x1p-110f;
constexpr float kLeast = 0x1p-50f;
constexpr float kMost = 0x1p50f;

BFloat16 LoadScale(const void* scales, int64_t at) {
  BFloat16 scale{};
  std::memcpy(&scale, static_cast<const std::byte*>(scales) + at * 2, 2);
  return scale;
}

// Sums are kept in as many parts, which the compiler makes vectors of.
constexpr int64_t kLanes = 8;

double Total(const float (&parts)[kLanes]) {
  double total = 0;
  for (const float part : parts) total += part;
  return total;
}

// A group of one row to be encoded: its numbers, and how much the error of each
// counts; zeros up to a multiple of kLanes.
struct GivenGroup {
  int64_t padded = 0;
  float numbers[kMostGroup] = {};
  float weights[kMostGroup] = {};
};

// With how well it is rounded: weighted squares.
struct Group : RoundedGroup {
  double error = 0;
};

// The codes nearest to the numbers for a scale, and then the scale nearest to
// the numbers for these.
Group RoundGroup(const FormatRow& format, const GivenGroup& given,
                 float scale) {
  const CodeGrid grid(format);
  const float inverse = 1 / scale;
  Group group;
  float products[kLanes] = {};
  float squares[kLanes] = {};
  for (int64_t i = 0; i < given.padded; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const float number = given.numbers[i + j];
      const float code = grid.Nearest(number * inverse);
      const float weighted = given.weights[i + j] * code;
      group.codes[i + j] = code;
      products[j] += weighted * number;
      squares[j] += weighted * code;
    }
  }
  const double square = Total(squares);
  if (square > 0) scale = static_cast<float>(Total(products) / square);
  group.scale = ToBFloat16(scale);
  const float stored = ToFloat(group.scale);
  float errors[kLanes] = {};
  for (int64_t i = 0; i < given.padded; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) {
      const float off = given.numbers[i + j] - stored * group.codes[i + j];
      errors[j] += given.weights[i + j] * off * off;
    }
  }
  group.error = Total(errors);
  return group;
}

// The codes nearest to the numbers for a scale as it is stored. In 8 bits a
// better scale is not worth its rounding to BF16: a stored scale that its codes
// were not chosen for errs along the row itself, and so most where a product is
// large. KL divergence of the bundled model in int8, median of tokens:
// 0.000041, and with the scale of least squares 0.000050.
RoundedGroup NearestCodes(const FormatRow& format, const GivenGroup& given,
                          BFloat16 scale) {
  const CodeGrid grid(format);
  const float inverse = 1 / ToFloat(scale);
  RoundedGroup group{scale};
  for (int64_t i = 0; i < given.padded; ++i) {
    group.codes[i] = grid.Nearest(given.numbers[i] * inverse);
  }
  return group;
}

}  // namespace

// The steps, as shares of the largest number, at which a group is rounded. With
// few bits it pays to try: a smaller step clips the largest number for the sake
// of the many, and a negative one gives it the code below -most().
RoundedGroup EncodeGroup(const FormatRow& format, const float* w, int64_t count,
                         const float* importance) {
  GivenGroup given;
  given.padded = (count + kLanes - 1) / kLanes * kLanes;
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    given.numbers[i] = w[i];
    given.weights[i] = importance == nullptr ? 1.0f : importance[i];
    largest = std::max(largest, std::abs(w[i]));
  }
  if (largest < kZero) return {};
  const float step = largest / static_cast<float>(format.most());
  if (format.bits == 8) {
    return NearestCodes(format, given, ToBFloat16(step));
  }
  if (largest < kLeast || largest > kMost) {
    return RoundGroup(format, given, step);
  }
  Group best;
  best.error = HUGE_VAL;
  // Of two bits the best is 0.7 for normal numbers.
  const int least = format.bits == 2 ? 48 : 76;
  for (int percent = 104; percent >= least; percent -= 4) {
    for (const float sign : {1.0f, -1.0f}) {
      const float share = sign * static_cast<float>(percent) / 100;
      const Group group = RoundGroup(format, given, share * step);
      if (group.error < best.error) best = group;
      if (IsOdd(format.bits)) break;  // the same numbers either way
    }
  }
  return best;
}

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

void PackRows(const FormatRow& format, const int8_t* rounded, int64_t rows,
              int64_t cols, std::byte* codes) {
  const PackedSizes sizes = PackedSizesOf(format, cols);
  // Where there is no code of zero, what lies beyond the columns is that of
  // one, which meets no input.
  std::vector<uint8_t> quads(static_cast<size_t>(sizes.quads * kQuadBytes),
                             kCodeMiddle + (IsOdd(format.bits) ? 1 : 0));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      quads[static_cast<size_t>(c / kQuad * kQuadBytes + r * kQuad +
                                c % kQuad)] =
          static_cast<uint8_t>(kCodeMiddle + rounded[r * cols + c]);
    }
  }
  const int64_t unit = format.quads * kQuadBytes;
  for (int64_t q = 0; q < sizes.quads; q += format.quads) {
    format.pack(quads.data() + q * kQuadBytes,
                reinterpret_cast<uint8_t*>(codes) +
                    q / format.quads * unit * format.bits / 8);
  }
}

void EncodePacked(const FormatRow& format, const float* w, int64_t rows,
                  int64_t cols, const float* importance, std::byte* codes,
                  std::byte* scales) {
  const PackedSizes sizes = PackedSizesOf(format, cols);
  std::vector<int8_t> rounded(static_cast<size_t>(rows * cols));
  std::memset(scales, 0, static_cast<size_t>(sizes.scale_bytes()));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < sizes.groups; ++g) {
      const int64_t first = g * format.group;
      const int64_t count = std::min(format.group, cols - first);
      const RoundedGroup group =
          EncodeGroup(format, w + r * cols + first, count,
                      importance == nullptr ? nullptr : importance + first);
      std::memcpy(scales + (g * kPackedRows + r) * 2, &group.scale, 2);
      for (int64_t i = 0; i < count; ++i) {
        rounded[static_cast<size_t>(r * cols + first + i)] =
            static_cast<int8_t>(group.codes[i]);
      }
    }
  }
  PackRows(format, rounded.data(), rows, cols, codes);
}

}  // namespace mobe
