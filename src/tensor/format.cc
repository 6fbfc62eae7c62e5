#include "tensor/format.h"

#include <algorithm>
#include <array>

namespace mobe {

std::span<const FormatRow> Formats() {
  static const std::array rows = {
      FormatRow{NumberFormat::kF32, "f32", 32, DType::kF32},
      FormatRow{NumberFormat::kF16, "f16", 16, DType::kF16},
      FormatRow{NumberFormat::kBF16, "bf16", 16, DType::kBF16},
      FormatRow{NumberFormat::kF8, "fp8", 8, DType::kF8E4M3},
      kInt8Format,
      kInt6Format,
      kInt5Format,
      kInt4Format,
      kInt3Format,
      kInt2Format};
  return rows;
}

const FormatRow* FormatFromName(std::string_view name) {
  const auto found = std::ranges::find(Formats(), name, &FormatRow::name);
  return found == Formats().end() ? nullptr : &*found;
}

std::optional<NumberFormat> FormatOf(DType dtype) {
  const auto found = std::ranges::find_if(Formats(), [&](const FormatRow& row) {
    return !row.packed() && row.codes == dtype;
  });
  if (found == Formats().end()) return std::nullopt;
  return found->format;
}

}  // namespace mobe
