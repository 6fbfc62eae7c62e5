#include "cli/parse_bytes.h"

#include <charconv>
#include <string_view>

#include "base/error.h"

namespace mobe {

int64_t ParseBytes(const std::string& option, const std::string& text) {
  struct Unit {
    const char* name;
    double bytes;
  };
  constexpr Unit kUnits[] = {{"", 1},        {"kB", 1e3},      {"MB", 1e6},
                             {"GB", 1e9},    {"TB", 1e12},     {"K", 1024},
                             {"M", 1 << 20}, {"G", 1 << 30},   {"T", 0x1p40},
                             {"KiB", 1024},  {"MiB", 1 << 20}, {"GiB", 1 << 30},
                             {"TiB", 0x1p40}};
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  std::string_view unit(rest, static_cast<size_t>(end - rest));
  while (unit.starts_with(' ')) unit.remove_prefix(1);
  for (const Unit& row : kUnits) {
    const double bytes = number * row.bytes;
    if (error == std::errc() && unit == row.name && bytes >= 1 &&
        bytes < 0x1p62) {
      return static_cast<int64_t>(bytes);
    }
  }
  Fail(ErrorKind::kUserInput, "{} {}: expected a size as 12GB, 800MB or 1.5GiB",
       option, text);
}

}  // namespace mobe
