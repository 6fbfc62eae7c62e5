#include "jinja/arithmetic.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
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

// Positions of a slice in a sequence of `size`, as slice.indices() gives them.
std::vector<size_t> SlicePositions(std::optional<int64_t> start,
                                   std::optional<int64_t> stop, int64_t step,
                                   size_t size) {
  const auto n = static_cast<int64_t>(size);
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? n : n - 1;
  const auto clamp = [&](std::optional<int64_t> bound, int64_t missing) {
    if (!bound) return missing;
    return std::clamp(*bound < 0 ? *bound + n : *bound, low, high);
  };
  const int64_t from = clamp(start, step > 0 ? low : high);
  const int64_t to = clamp(stop, step > 0 ? high : low);
  std::vector<size_t> positions;
  for (int64_t i = from; step > 0 ? i < to : i > to;) {
    positions.push_back(static_cast<size_t>(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return positions;
}

}  // namespace

Value Signed(const std::string& operation, const Value& operand) {
  const bool negative = operation == "-";
  if (const auto integer = operand.AsInteger()) {
    if (!negative) return *integer;
    if (*integer == std::numeric_limits<int64_t>::min()) FailTooLarge("-");
    return -*integer;
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
    const auto integer = i && j ? OfIntegers(operation, *i, *j) : std::nullopt;
    return integer ? Value(*integer) : Value(OfFloats(operation, *a, *b));
  }
  if (operation == "+") {
    const std::string *s = left.AsString(), *t = right.AsString();
    if (s && t) {
      runtime.Spend(s->size() + t->size());
      return *s + *t;
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
    for (const size_t i :
         SlicePositions(start, stop, step.value_or(1), characters.size())) {
      part += characters[i];
    }
    return python::Encode(part);
  }
  const Sequence* sequence = object.AsSequence();
  if (sequence != nullptr &&
      (sequence->IsListOrTuple() || sequence->kind == Kind::kRange)) {
    runtime.Spend(sequence->items.size() * kStep);
    std::vector<Value> items;
    for (const size_t i : SlicePositions(start, stop, step.value_or(1),
                                         sequence->items.size())) {
      items.push_back(sequence->items[i]);
    }
    return Value::MakeList(std::move(items), sequence->kind);
  }
  Fail(ErrorKind::kUserInput, "{} has no slices", object.TypeName());
}

}  // namespace mobe::jinja
