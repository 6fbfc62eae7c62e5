// How one value is put into a text, in either of Python's languages of formats.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "jinja/runtime.h"

namespace mobe::jinja {

struct Spec {
  std::string fill = " ";  // one character
  char align = '\0';       // '<', '>', '^', '=' (behind the sign); 0: by type
  bool zeros = false;      // before the digits of a number
  char sign = '-';         // '+', ' ': also of what is not negative
  bool alternate = false;  // '#'
  char grouping = '\0';    // ',' or '_'
  int64_t width = 0;
  std::optional<int64_t> precision;
  char type = '\0';
};

inline constexpr int64_t kMaxPrecision = 10'000;

inline bool OneOf(std::string_view set, char c) {
  return c != '\0' && set.find(c) != std::string_view::npos;
}

// A number without its sign.
struct Digits {
  bool negative = false;
  std::string prefix = {};  // "0x"
  std::string digits = {};
  bool is_float = false;
};

// Of types e, f, g and %, or as repr has it. Fails with kUnsupported for a
// precision without a type, or above kMaxPrecision.
Digits FloatDigits(double value, const Spec& spec, Runtime& runtime);
// Of types d, b, o and x. `decimal` are digits of any length.
Digits IntegerDigits(std::string decimal, const Spec& spec);
// The decimal digits of an int, however long; nothing for what is none.
std::optional<std::string> DecimalOf(const Value& value);
// The character that has this number.
std::string CharacterOf(const Value& value);

// With sign, groups and filling.
std::string WriteNumber(Digits number, Spec spec, Runtime& runtime);
// Cut to the precision, and filled.
std::string WriteText(std::string text, const Spec& spec, Runtime& runtime);

}  // namespace mobe::jinja
