// Tests (x is defined) and functions that every template has.
#include <array>
#include <chrono>
#include <cmath>
#include <ctime>

#include "base/error.h"
#include "jinja/python_text.h"
#include "jinja/runtime.h"

namespace mobe::jinja {
namespace {

template <bool (*holds)(const Value&)>
Value Is(Call& call) {
  return holds(*call.Bind({"value"}, 1)[0]);
}

bool IsDefined(const Value& v) { return !v.IsUndefined(); }
bool IsUndefined(const Value& v) { return v.IsUndefined(); }
bool IsNone(const Value& v) { return v.IsNone(); }
bool IsString(const Value& v) { return v.AsString() != nullptr; }
bool IsMapping(const Value& v) { return v.AsMapping() != nullptr; }
bool IsBoolean(const Value& v) { return v.AsBool() != nullptr; }
bool IsTrue(const Value& v) { return IsBoolean(v) && *v.AsBool(); }
bool IsFalse(const Value& v) { return IsBoolean(v) && !*v.AsBool(); }
bool IsFloat(const Value& v) { return v.AsFloat() != nullptr; }
bool IsInteger(const Value& v) {
  return v.AsLong() != nullptr || (!IsBoolean(v) && v.AsInteger());
}
bool IsNumber(const Value& v) { return v.AsNumber() || v.AsLong() != nullptr; }
bool IsCallable(const Value& v) { return v.AsCallable() != nullptr; }
// Dicts, texts and undefined values, too.
bool IsIterable(const Value& v) {
  return IsString(v) || IsMapping(v) || IsUndefined(v) ||
         v.AsSequence() != nullptr ||
         (IsCallable(v) && v.AsCallable()->is_loop);
}

// What has a length and, whatever it is, items.
bool IsSequence(const Value& v) {
  const Sequence* sequence = v.AsSequence();
  return IsIterable(v) && !IsCallable(v) &&
         (sequence == nullptr || sequence->IsListOrTuple() ||
          sequence->kind == Kind::kRange);
}

template <bool (*holds)(std::string_view)>
Value IsText(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  return holds(PrintedOf(*a[0], call.runtime()));
}

// `is`: there is one None, and one of each bool; of others it depends on what
// Python keeps.
Value SameAs(Call& call) {
  const auto a = call.Bind({"value", "other"}, 2);
  const auto kind = [](const Value& v) {
    return v.IsNone() ? 1 : IsTrue(v) ? 2 : IsFalse(v) ? 3 : 0;
  };
  if (kind(*a[0]) == 0 && kind(*a[1]) == 0) {
    Fail(ErrorKind::kUnsupported, "sameas of {} and {}", a[0]->TypeName(),
         a[1]->TypeName());
  }
  return kind(*a[0]) == kind(*a[1]);
}

bool IsEven(const Value& v) { return IntegerOf(v, "what is even") % 2 == 0; }
bool IsOdd(const Value& v) { return !IsEven(v); }

Value DivisibleBy(Call& call) {
  const auto a = call.Bind({"value", "num"}, 2);
  const int64_t divisor = IntegerOf(*a[1], "the divisor");
  if (divisor == 0) Fail(ErrorKind::kUserInput, "divisibleby 0");
  const int64_t value = IntegerOf(*a[0], "what is divisible");
  return divisor == -1 || value % divisor == 0;
}

Value IsInValue(Call& call) {
  const auto a = call.Bind({"value", "seq"}, 2);
  return IsIn(*a[0], *a[1], call.runtime());
}

template <bool wanted>
Value Equals(Call& call) {
  const auto a = call.Bind({"value", "other"}, 2);
  call.runtime().Spend(a[0]->extent().weight);
  call.runtime().Spend(a[1]->extent().weight);
  return Equal(*a[0], *a[1]) == wanted;
}

// Of an order: less, equal, greater.
template <bool less, bool equal, bool greater>
Value Ordered(Call& call) {
  const auto a = call.Bind({"value", "other"}, 2);
  call.runtime().Spend(a[0]->extent().weight);
  call.runtime().Spend(a[1]->extent().weight);
  const auto order = Order(*a[0], *a[1]);
  if (!order) return false;
  return *order < 0 ? less : *order > 0 ? greater : equal;
}

constexpr auto kLess = Ordered<true, false, false>;
constexpr auto kLessEqual = Ordered<true, true, false>;
constexpr auto kGreater = Ordered<false, false, true>;
constexpr auto kGreaterEqual = Ordered<false, true, true>;

constexpr NamedFunction kTests[] = {
    {"!=", Equals<false>},
    {"<", kLess},
    {"<=", kLessEqual},
    {"==", Equals<true>},
    {">", kGreater},
    {">=", kGreaterEqual},
    {"boolean", Is<IsBoolean>},
    {"callable", Is<IsCallable>},
    {"defined", Is<IsDefined>},
    {"divisibleby", DivisibleBy},
    {"eq", Equals<true>},
    {"equalto", Equals<true>},
    {"even", Is<IsEven>},
    {"false", Is<IsFalse>},
    {"float", Is<IsFloat>},
    {"ge", kGreaterEqual},
    {"greaterthan", kGreater},
    {"gt", kGreater},
    {"in", IsInValue},
    {"integer", Is<IsInteger>},
    {"iterable", Is<IsIterable>},
    {"le", kLessEqual},
    {"lower", IsText<python::IsLower>},
    {"lessthan", kLess},
    {"lt", kLess},
    {"mapping", Is<IsMapping>},
    {"ne", Equals<false>},
    {"none", Is<IsNone>},
    {"number", Is<IsNumber>},
    {"odd", Is<IsOdd>},
    {"sameas", SameAs},
    {"sequence", Is<IsSequence>},
    {"string", Is<IsString>},
    {"true", Is<IsTrue>},
    {"undefined", Is<IsUndefined>},
    {"upper", IsText<python::IsUpper>},
};

// --- Functions.

Value Range(Call& call) {
  const auto& given = call.arguments().positional;
  const auto a = call.Bind({"start", "stop", "step"}, 1);
  const bool one = given.size() == 1;
  const int64_t start = one ? 0 : IntegerOf(*a[0], "start");
  const int64_t stop = IntegerOf(one ? *a[0] : *a[1], "stop");
  const int64_t step = a[2] == nullptr ? 1 : IntegerOf(*a[2], "step");
  if (step == 0) Fail(ErrorKind::kUserInput, "the step of range is 0");
  constexpr size_t kMaxRange = 100000;  // jinja2's sandbox has the same
  std::vector<Value> numbers;
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (numbers.size() == kMaxRange) {
      Fail(ErrorKind::kUserInput, "range of more than {} numbers", kMaxRange);
    }
    numbers.emplace_back(i);
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  call.runtime().Spend(numbers.size() * kStep);
  return Value::MakeRange(std::move(numbers), {start, stop, step});
}

// What dict() and namespace() are made of: a dict, then named arguments.
MappingItems Entries(Call& call) {
  MappingItems entries;
  const auto& given = call.arguments().positional;
  const Mapping* mapping = given.empty() ? nullptr : given[0].AsMapping();
  if (given.size() > 1 || (!given.empty() && mapping == nullptr)) {
    Fail(ErrorKind::kUnsupported, "expected one dict, or arguments with names");
  }
  if (mapping != nullptr) {
    for (const auto& [key, unused] : mapping->items) {
      call.runtime().Spend(kTextStep + key.extent().weight);
    }
    entries = mapping->items;
  }
  for (const auto& [name, value] : call.arguments().named) {
    call.runtime().Set(entries, Value(name), value);
  }
  return entries;
}

Value MakeDict(Call& call) {
  auto entries = Entries(call);
  call.runtime().Spend(entries.size() * kStep);
  return Value::MakeMapping(std::move(entries));
}

Value MakeNamespace(Call& call) {
  Namespace* space = call.runtime().MakeNamespace();
  for (const auto& [key, value] : Entries(call)) {
    space->items.emplace_back(TextOf(key, "a name in a namespace"), value);
  }
  call.runtime().Spend(space->items.size() * kStep);
  return space;
}

Value RaiseException(Call& call) {
  const auto a = call.Bind({"message"}, 1);
  call.runtime().Spend(a[0]->extent().weight);
  Fail(ErrorKind::kUserInput, "the template refuses the conversation: {}",
       Excerpt(ToString(*a[0])));
}

// What Python puts in for a time without a zone before it asks the C library.
std::string WithoutZone(std::string_view format, int64_t microseconds) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    const char next = i + 1 < format.size() ? format[i + 1] : ' ';
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    ++i;
    if (next == 'f') {
      out += fmt::format("{:06}", microseconds);
    } else if (next != 'z' && next != 'Z') {
      out += '%';
      if (i < format.size()) out += next;
    }
  }
  return out;
}

// Python's strftime is that of the C library, as this is.
Value StrftimeNow(Call& call) {
  const auto a = call.Bind({"format"}, 1);
  const std::string& given = TextOf(*a[0], "the format of strftime_now");
  call.runtime().Spend(given.size() * 3);
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  const auto microseconds =
      std::chrono::duration_cast<std::chrono::microseconds>(since).count();
  const std::string format = WithoutZone(given, microseconds % 1000000);
  const auto now = static_cast<std::time_t>(microseconds / 1000000);
  std::tm local{};
  localtime_r(&now, &local);
  std::array<char, 4096> text;
  const size_t size =
      format.find('\0') == std::string::npos
          ? std::strftime(text.data(), text.size(), format.c_str(), &local)
          : 0;
  if (size == 0 && !format.empty()) {
    Fail(ErrorKind::kUserInput, "strftime_now can't use its format");
  }
  return call.Text(std::string(text.data(), size));
}

// jinja2 has more, which only show when they are asked for.
Value NotSupported(Call&) {
  Fail(ErrorKind::kUnsupported, "cycler, joiner and lipsum are not supported");
}

constexpr NamedFunction kGlobals[] = {
    {"cycler", NotSupported},
    {"dict", MakeDict},
    {"joiner", NotSupported},
    {"lipsum", NotSupported},
    {"namespace", MakeNamespace},
    {"raise_exception", RaiseException},
    {"range", Range},
    {"strftime_now", StrftimeNow},
};

}  // namespace

NativeFunction FindTest(std::string_view name) {
  const NativeFunction test = FindNamed(kTests, name);
  if (test == nullptr) {
    Fail(ErrorKind::kUnsupported, "the test \"{}\" is not supported", name);
  }
  return test;
}

NativeFunction FindGlobal(std::string_view name) {
  return FindNamed(kGlobals, name);
}

}  // namespace mobe::jinja
