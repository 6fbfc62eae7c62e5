// How the numbers of a weight matrix are stored: one row of a table for each
// format. Everything that opens, copies, quantises, multiplies or counts
// weights asks the table; a new format is a row of few_bits.cc, or a file like
// int8.cc, and a row in format.cc.
//
// There are two layouts:
//
// rows    Numbers in the order of the matrix, as safetensors has them: F32,
// F16,
//         BF16, and F8 (E4M3) with a scale for each block of rows and columns.
// packed  Integer codes and their scales in two planes, interleaved by 16 rows
// as
//         the products of integers read them (tensor/packed.h): int2 to int6,
//         int8; bases have a layout of their own (tensor/packed_bases.h).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/dtype.h"

namespace mobe {

enum class NumberFormat {
  kF32,
  kF16,
  kBF16,
  kF8,
  kInt8,
  kInt6,
  kInt5,
  kInt4,
  kInt3,
  kInt2
};

// The numbers that packed codes of so many bits stand for, before their scale:
// all integers from -LeastOf to MostOf, or the odd ones alone. Of 8 bits the
// lowest is left out: instructions before VNNI need a negative of each.
constexpr bool IsOdd(int bits) { return bits < 4; }
constexpr int MostOf(int bits) {
  return IsOdd(bits) ? (1 << bits) - 1 : (1 << (bits - 1)) - 1;
}
constexpr int LeastOf(int bits) {
  return IsOdd(bits) || bits == 8 ? MostOf(bits) : MostOf(bits) + 1;
}

struct FormatRow {
  NumberFormat format;
  const char* name;  // in options, reports and tensor names: "bf16", "int4"
  int bits;          // of a number, without scales
  DType codes;       // what safetensors calls the first plane
  // The rest is of packed formats. Adjacent inputs (columns) of a row that
  // share a scale; 0: the layout is rows.
  int64_t group = 0;
  // Quads (four adjacent columns of 16 rows) that are packed together.
  int64_t quads = 0;
  // Between `quads` quads as they are packed, and as [quads, 16, 4] codes of a
  // byte each, whose middle is kCodeMiddle.
  void (*pack)(const uint8_t* codes, uint8_t* packed) = nullptr;
  void (*unpack)(const uint8_t* packed, uint8_t* codes) = nullptr;
  // Whether bases have a layout of their own (tensor/packed_bases.h), that
  // which they are mixed in: others are brought into it when a model is loaded.
  bool has_bases = false;

  bool packed() const { return group > 0; }
  int most() const { return MostOf(bits); }
  int least() const { return -LeastOf(bits); }
};

// In the order of the enum.
std::span<const FormatRow> Formats();
inline const FormatRow& RowOf(NumberFormat format) {
  return Formats()[static_cast<size_t>(format)];
}
// Null when there is none of that name.
const FormatRow* FormatFromName(std::string_view name);
// That in which a tensor of a dtype is read; nothing for a dtype that is no
// matrix of weights.
std::optional<NumberFormat> FormatOf(DType dtype);

// The rows of packed formats: int8.cc, few_bits.cc.
extern const FormatRow kInt8Format;
extern const FormatRow kInt6Format, kInt5Format, kInt4Format, kInt3Format,
    kInt2Format;

}  // namespace mobe
