#include "jinja/arithmetic.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "jinja/format.h"
#include "jinja/python_text.h"

namespace mobe::jinja {
namespace {

[[noreturn]] void FailTooLarge(const std::string& operation) {
  Fail(ErrorKind::kUserInput, "the result of {} is beyond 64 bits", operation);
}

int64_t FloorDivide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

int64_t Power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  // Beyond 64 factors there is an overflow, or the parity tells.
  const int64_t factors = exponent > 64 ? 64 + exponent % 2 : exponent;
  for (int64_t i = 0; i < factors; ++i) {
    if (__builtin_mul_overflow(result, base, &result)) FailTooLarge("**");
  }
  return result;
}

// Nothing: no operation of two integers that gives an integer.
std::optional<int64_t> OfIntegers(const std::string& operation, int64_t a,
                                  int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (operation == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (operation == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (operation == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (operation == "//" || operation == "%") {
    overflow = a == std::numeric_limits<int64_t>::min() && b == -1;
    if (!overflow) {
      const int64_t quotient = FloorDivide(a, b);
      result = operation == "%" ? a - quotient * b : quotient;
    }
  } else if (operation == "**" && b >= 0) {
    result = Power(a, b);
  } else {
    return std::nullopt;
  }
  if (overflow) FailTooLarge(operation);
  return result;
}

// int / int, rounded once as Python does it, however large they are.
double Divide(int64_t a, int64_t b) {
  // As many bits as there is room for, so that what is cut is far below the
  // last bit of a double; whether something is cut rounds what would be a tie.
  __extension__ using Wide = unsigned __int128;
  const auto magnitude = [](int64_t i) {
    return i < 0 ? -static_cast<Wide>(i) : static_cast<Wide>(i);
  };
  Wide numerator = magnitude(a);
  if (numerator == 0) return 0;
  int shift = 0;
  for (; (numerator >> 126) == 0; ++shift) numerator <<= 1;
  const Wide divisor = magnitude(b);
  const Wide quotient = numerator / divisor;
  const bool cut = numerator % divisor != 0;
  const double rounded = std::ldexp(
      static_cast<double>(quotient | static_cast<unsigned>(cut)), -shift);
  return (a < 0) == (b < 0) ? rounded : -rounded;
}

double PowerOfFloats(double a, double b) {
  if (a < 0 && std::isfinite(a) && std::isfinite(b) && std::floor(b) != b) {
    Fail(ErrorKind::kUnsupported, "a root of a negative number");
  }
  const double power = std::pow(a, b);
  if (std::isinf(power) && std::isfinite(a) && std::isfinite(b)) {
    Fail(ErrorKind::kUserInput, "the result of ** is too large");
  }
  return power;
}

// Python's float // float and float % float, with its signs of zeros.
double FloorDivide(double a, double b) {
  const double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0 && (rest < 0) != (b < 0)) quotient -= 1;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

double Remainder(double a, double b) {
  const double rest = std::fmod(a, b);
  if (rest == 0) return std::copysign(0.0, b);
  return (rest < 0) != (b < 0) ? rest + b : rest;
}

double OfFloats(const std::string& operation, double a, double b) {
  if (operation == "+") return a + b;
  if (operation == "-") return a - b;
  if (operation == "*") return a * b;
  if (operation == "/") return a / b;
  if (operation == "**") return PowerOfFloats(a, b);
  return operation == "%" ? Remainder(a, b) : FloorDivide(a, b);
}

// Text or list, repeated.
Value Repeat(const Value& value, int64_t times, Runtime& runtime) {
  const auto count = static_cast<uint64_t>(std::max<int64_t>(times, 0));
  runtime.Spend(
      CheckedMul(count, value.extent().weight + kStep).value_or(kMaxWork));
  if (const std::string* text = value.AsString()) {
    std::string out;
    for (uint64_t i = 0; i < count; ++i) out += *text;
    if (value.IsMarkup()) return Value::MakeMarkup(std::move(out));
    return out;
  }
  const Sequence& sequence = *value.AsSequence();
  std::vector<Value> items;
  for (uint64_t i = 0; i < count; ++i) {
    items.insert(items.end(), sequence.items.begin(), sequence.items.end());
  }
  return Value::MakeList(std::move(items), sequence.kind);
}

Value Concatenate(const Sequence& a, const Sequence& b, Runtime& runtime) {
  runtime.Spend((a.items.size() + b.items.size()) * kStep);
  std::vector<Value> items = a.items;
  items.insert(items.end(), b.items.begin(), b.items.end());
  return Value::MakeList(std::move(items), a.kind);
}

bool Repeatable(const Value& value) {
  const Sequence* sequence = value.AsSequence();
  return value.AsString() != nullptr ||
         (sequence != nullptr && sequence->IsListOrTuple());
}

// slice(start, stop, step).indices(size)
Bounds SliceBounds(std::optional<int64_t> start, std::optional<int64_t> stop,
                   int64_t step, size_t size) {
  const auto n = static_cast<int64_t>(size);
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? n : n - 1;
  const auto clamp = [&](std::optional<int64_t> bound, int64_t missing) {
    if (!bound) return missing;
    return std::clamp(*bound < 0 ? *bound + n : *bound, low, high);
  };
  return {clamp(start, step > 0 ? low : high),
          clamp(stop, step > 0 ? high : low), step};
}

std::vector<size_t> Positions(const Bounds& slice) {
  std::vector<size_t> positions;
  for (int64_t i = slice.start;
       slice.step > 0 ? i < slice.stop : i > slice.stop;) {
    positions.push_back(static_cast<size_t>(i));
    if (__builtin_add_overflow(i, slice.step, &i)) break;
  }
  return positions;
}

// The bounds of range[slice].
Bounds SliceOfRange(const Bounds& range, const Bounds& slice) {
  const auto at = [&](int64_t i) {
    int64_t value = 0;
    if (__builtin_mul_overflow(i, range.step, &value) ||
        __builtin_add_overflow(value, range.start, &value)) {
      FailTooLarge("a slice of a range");
    }
    return value;
  };
  int64_t step = 0;
  if (__builtin_mul_overflow(range.step, slice.step, &step)) {
    FailTooLarge("a slice of a range");
  }
  return {at(slice.start), at(slice.stop), step};
}

// A text that may have gone through `safe`, + another: the one that has not is
// escaped as HTML.
Value AddTexts(const Value& left, const Value& right, Runtime& runtime) {
  const std::string &a = *left.AsString(), &b = *right.AsString();
  if (!left.IsMarkup() && !right.IsMarkup()) {
    runtime.Spend(a.size() + b.size());
    return a + b;
  }
  constexpr size_t kMaxGrowth = 5;  // to "&#34;"
  runtime.Spend(CheckedMul(a.size() + b.size(), kMaxGrowth).value_or(kMaxWork));
  return Value::MakeMarkup((left.IsMarkup() ? a : python::EscapeHtml(a)) +
                           (right.IsMarkup() ? b : python::EscapeHtml(b)));
}

}  // namespace

Value Signed(const std::string& operation, const Value& operand) {
  const bool negative = operation == "-";
  const std::string* digits = operand.AsLong();
  const auto integer = operand.AsInteger();
  if (integer || digits != nullptr) {
    if (!negative) return integer ? Value(*integer) : operand;
    std::string plain = integer ? std::to_string(*integer) : *digits;
    if (plain.starts_with('-')) {
      plain.erase(0, 1);
    } else {
      plain.insert(plain.begin(), '-');
    }
    return *Value::ReadInteger(plain);
  }
  if (const double* number = operand.AsFloat()) {
    return negative ? -*number : *number;
  }
  Fail(ErrorKind::kUserInput, "{} can't have the sign {}", operand.TypeName(),
       operation);
}

Value Arithmetic(const std::string& operation, const Value& left,
                 const Value& right, Runtime& runtime) {
  const auto a = left.AsNumber(), b = right.AsNumber();
  if (a && b) {
    const bool divides =
        operation == "/" || operation == "//" || operation == "%";
    if (*b == 0 && divides) Fail(ErrorKind::kUserInput, "division by zero");
    if (*a == 0 && *b < 0 && operation == "**") {
      Fail(ErrorKind::kUserInput, "0 to a negative power");
    }
    const auto i = left.AsInteger(), j = right.AsInteger();
    if (i && j && operation == "/") return Divide(*i, *j);
    const auto integer = i && j ? OfIntegers(operation, *i, *j) : std::nullopt;
    return integer ? Value(*integer) : Value(OfFloats(operation, *a, *b));
  }
  const bool is_long = left.AsLong() != nullptr || right.AsLong() != nullptr;
  if (is_long && (a || b || (left.AsLong() && right.AsLong()))) {
    Fail(ErrorKind::kUnsupported, "{} of an integer beyond 64 bits", operation);
  }
  if (operation == "%" && left.AsString() != nullptr) {
    if (left.IsMarkup()) {
      Fail(ErrorKind::kUnsupported, "% of {}", left.TypeName());
    }
    return FormatPercent(*left.AsString(), right, runtime);
  }
  if (operation == "+") {
    if (left.AsString() && right.AsString()) {
      return AddTexts(left, right, runtime);
    }
    const Sequence *l = left.AsSequence(), *m = right.AsSequence();
    if (l && m && l->kind == m->kind && l->IsListOrTuple()) {
      return Concatenate(*l, *m, runtime);
    }
  }
  if (operation == "*") {
    const auto i = left.AsInteger(), j = right.AsInteger();
    if (j && Repeatable(left)) return Repeat(left, *j, runtime);
    if (i && Repeatable(right)) return Repeat(right, *i, runtime);
  }
  Fail(ErrorKind::kUserInput, "{} {} {} can't be computed", left.TypeName(),
       operation, right.TypeName());
}

Value SliceOf(const Value& object, std::optional<int64_t> start,
              std::optional<int64_t> stop, std::optional<int64_t> step,
              Runtime& runtime) {
  if (step == 0) Fail(ErrorKind::kUserInput, "the step of a slice is 0");
  if (const std::string* text = object.AsString()) {
    runtime.Spend(text->size() * 4);
    const std::u32string characters = python::Decode(*text);
    std::u32string part;
    for (const size_t i : Positions(
             SliceBounds(start, stop, step.value_or(1), characters.size()))) {
      part += characters[i];
    }
    if (object.IsMarkup()) return Value::MakeMarkup(python::Encode(part));
    return python::Encode(part);
  }
  const Sequence* sequence = object.AsSequence();
  if (sequence != nullptr &&
      (sequence->IsListOrTuple() || sequence->kind == Kind::kRange)) {
    runtime.Spend(sequence->items.size() * kStep);
    std::vector<Value> items;
    const Bounds slice =
        SliceBounds(start, stop, step.value_or(1), sequence->items.size());
    for (const size_t i : Positions(slice)) items.push_back(sequence->items[i]);
    if (sequence->kind == Kind::kRange) {
      return Value::MakeRange(std::move(items),
                              SliceOfRange(sequence->bounds, slice));
    }
    return Value::MakeList(std::move(items), sequence->kind);
  }
  Fail(ErrorKind::kUserInput, "{} has no slices", object.TypeName());
}

}  // namespace mobe::jinja
