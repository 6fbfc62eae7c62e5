#include "jinja/format_spec.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/checked.h"
#include "base/error.h"
#include "base/unicode.h"
#include "jinja/python_text.h"

namespace mobe::jinja {
namespace {

std::string Padded(const std::string& text, size_t sign_size, const Spec& spec,
                   char default_align, Runtime& runtime) {
  const int64_t missing = spec.width - python::Length(text);
  if (missing <= 0) return text;
  const auto count = static_cast<uint64_t>(missing);
  runtime.Spend(CheckedMul(count, spec.fill.size()).value_or(kMaxWork));
  const char align = spec.align == '\0' ? default_align : spec.align;
  const uint64_t before = align == '<' ? 0 : align == '^' ? count / 2 : count;
  std::string out = align == '=' ? text.substr(0, sign_size) : "";
  for (uint64_t i = 0; i < before; ++i) out += spec.fill;
  out += align == '=' ? text.substr(sign_size) : text;
  for (uint64_t i = before; i < count; ++i) out += spec.fill;
  return out;
}

// Three digits each of what stands before the point; four of other bases.
void Group(const Spec& spec, Digits* number) {
  if (spec.grouping == '\0') return;
  const size_t size = OneOf("boxX", spec.type) ? 4 : 3;
  const size_t end =
      std::min(number->digits.find_first_not_of("0123456789abcdefABCDEF"),
               number->digits.size());
  const size_t whole = number->is_float
                           ? std::min(number->digits.find_first_of(".e"), end)
                           : end;
  for (size_t i = whole; i > size;) {
    i -= size;
    number->digits.insert(i, 1, spec.grouping);
  }
}

std::string Printf(const char* format, int precision, double value) {
  // At most the digits of the largest number and those behind its point.
  std::string out(static_cast<size_t>(precision) + 400, '\0');
  const int size =
      std::snprintf(out.data(), out.size(), format, precision, value);
  out.resize(static_cast<size_t>(size));
  return out;
}

}  // namespace

std::string WriteNumber(Digits number, Spec spec, Runtime& runtime) {
  if (spec.zeros) spec.align = '=';
  const bool pads_zeros = spec.fill == "0" && spec.align == '=';
  if (pads_zeros && spec.grouping != '\0' && spec.width > 0) {
    Fail(ErrorKind::kUnsupported,
         "a format that fills with zeros and groups digits");
  }
  Group(spec, &number);
  std::string out = number.negative    ? "-"
                    : spec.sign == '-' ? ""
                                       : std::string(1, spec.sign);
  out += number.prefix;
  const size_t before = out.size();
  out += number.digits;
  return Padded(out, before, spec, '>', runtime);
}

Digits FloatDigits(double value, const Spec& spec, Runtime& runtime) {
  Digits number{.negative = std::signbit(value) && !std::isnan(value),
                .is_float = true};
  const double size = std::fabs(value);
  if (spec.type == '\0' && !spec.precision) {
    number.digits = python::Repr(size);
    return number;
  }
  if (spec.type == '\0') {
    Fail(ErrorKind::kUnsupported,
         "a float's format with a precision but without a type");
  }
  const int64_t precision = spec.precision.value_or(6);
  if (precision > kMaxPrecision) {
    Fail(ErrorKind::kUnsupported, "a format's precision of {}", precision);
  }
  runtime.Spend(static_cast<uint64_t>(precision) + 400);
  const std::string format = fmt::format("%{}.*{}", spec.alternate ? "#" : "",
                                         spec.type == '%' ? 'f' : spec.type);
  number.digits = Printf(format.c_str(), static_cast<int>(precision),
                         spec.type == '%' ? size * 100 : size);
  if (spec.type == '%') number.digits += '%';
  return number;
}

Digits IntegerDigits(std::string decimal, const Spec& spec) {
  Digits number;
  number.negative = decimal.starts_with('-');
  if (number.negative) decimal.erase(0, 1);
  if (!OneOf("boxX", spec.type)) {
    number.digits = std::move(decimal);
    return number;
  }
  uint64_t value = 0;
  const char* end = decimal.data() + decimal.size();
  if (std::from_chars(decimal.data(), end, value).ec != std::errc()) {
    Fail(ErrorKind::kUnsupported, "an integer beyond 64 bits in another base");
  }
  const int base = spec.type == 'b' ? 2 : spec.type == 'o' ? 8 : 16;
  char buffer[64];
  const auto written = std::to_chars(buffer, buffer + 64, value, base);
  number.digits.assign(buffer, written.ptr);
  if (spec.type == 'X') {
    for (char& c : number.digits) c = static_cast<char>(std::toupper(c));
  }
  if (spec.alternate) number.prefix = std::string("0") + spec.type;
  return number;
}

std::string WriteText(std::string text, const Spec& spec, Runtime& runtime) {
  if (spec.precision) {
    const std::u32string all = python::Decode(text);
    const auto size = static_cast<uint64_t>(*spec.precision);
    if (size < all.size()) text = python::Encode(all.substr(0, size));
  }
  return Padded(text, 0, spec, '<', runtime);
}

std::string CharacterOf(const Value& value) {
  const int64_t code = IntegerOf(value, "the format \"c\"");
  if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
    Fail(ErrorKind::kUserInput, "{} is no character", code);
  }
  std::string out;
  AppendUtf8(static_cast<char32_t>(code), out);
  return out;
}

std::optional<std::string> DecimalOf(const Value& value) {
  if (const std::string* digits = value.AsLong()) return *digits;
  if (const auto integer = value.AsInteger()) return std::to_string(*integer);
  return std::nullopt;
}

}  // namespace mobe::jinja
