// Methods of str, dict and list, as Python has them.
#include <algorithm>
#include <array>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "jinja/format.h"
#include "jinja/python_text.h"
#include "jinja/runtime.h"

namespace mobe::jinja {
namespace {

using python::Sides;

// The subject of a method of str.
const std::string& Self(const Call& call) {
  return *call.arguments().positional[0].AsString();
}

// Python's methods but split and its like take no arguments by name.
std::vector<const Value*> Bind(const Call& call,
                               std::initializer_list<std::string_view> names,
                               size_t required) {
  if (!call.arguments().named.empty()) {
    Fail(ErrorKind::kUserInput, "unexpected argument \"{}\"",
         call.arguments().named[0].first);
  }
  return call.Bind(names, required);
}

template <Sides sides>
Value StripText(Call& call) {
  const auto a = Bind(call, {"self", "chars"}, 1);
  std::optional<std::string_view> chars;
  if (Given(a[1])) chars = TextOf(*a[1], "the argument of strip");
  // Each character is looked up among those that go.
  const auto work = CheckedMul(Self(call).size(), chars ? chars->size() : 1);
  call.runtime().Spend(work.value_or(kMaxWork));
  if (chars) call.runtime().Spend(chars->size() * 4);
  return call.Text(std::string(python::Strip(Self(call), sides, chars)));
}

// A list of texts, each counted before it is made.
class Parts {
 public:
  explicit Parts(Runtime* runtime) : runtime_(runtime) {}

  python::AddPart Adder() {
    return [this](std::string_view part) {
      runtime_->Spend(kTextStep);
      parts_.emplace_back(std::string(part));
    };
  }
  Value Take(bool reversed) {
    if (reversed) std::ranges::reverse(parts_);
    return Value::MakeList(std::move(parts_));
  }

 private:
  Runtime* runtime_;
  std::vector<Value> parts_;
};

template <python::From from>
Value SplitText(Call& call) {
  const auto a = call.Bind({"self", "sep", "maxsplit"}, 1);
  std::optional<std::string_view> separator;
  if (Given(a[1])) separator = TextOf(*a[1], "the separator of split");
  if (separator && separator->empty()) {
    Fail(ErrorKind::kUserInput, "the separator of split is empty");
  }
  const int64_t max = a[2] == nullptr ? -1 : IntegerOf(*a[2], "maxsplit");
  call.runtime().Spend(Self(call).size() * 2);
  if (separator) call.runtime().Spend(separator->size());
  Parts parts(&call.runtime());
  python::Split(Self(call), separator, max, from, parts.Adder());
  return parts.Take(/*reversed=*/from == python::From::kRight);
}

Value SplitLinesOfText(Call& call) {
  Bind(call, {"self"}, 1);
  call.runtime().Spend(Self(call).size() * 2);
  Parts lines(&call.runtime());
  python::SplitLines(Self(call), lines.Adder());
  return lines.Take(/*reversed=*/false);
}

// startswith and endswith: of a text, or of any of a tuple.
template <bool at_end>
Value Begins(Call& call) {
  const auto a = Bind(call, {"self", "prefix"}, 2);
  const auto matches = [&](const Value& value) {
    const std::string& part = TextOf(value, "what the str is compared with");
    call.runtime().Spend(part.size());
    return at_end ? Self(call).ends_with(part) : Self(call).starts_with(part);
  };
  const Sequence* tuple = a[1]->AsSequence();
  if (tuple == nullptr || tuple->kind != Kind::kTuple) return matches(*a[1]);
  call.runtime().Spend(tuple->items.size() * kStep);
  return std::ranges::any_of(tuple->items, matches);
}

template <bool at_end>
Value RemoveEnd(Call& call) {
  const auto a = Bind(call, {"self", "prefix"}, 2);
  const std::string& part = TextOf(*a[1], "what is removed from the str");
  std::string_view text = Self(call);
  call.runtime().Spend(part.size());
  if (at_end && text.ends_with(part)) text.remove_suffix(part.size());
  if (!at_end && text.starts_with(part)) text.remove_prefix(part.size());
  return call.Text(std::string(text));
}

template <std::string (*convert)(std::string_view)>
Value ConvertSelf(Call& call) {
  Bind(call, {"self"}, 1);
  call.runtime().Spend(Self(call).size());
  return call.Text(convert(Self(call)));
}

// Word by word.
Value TitleOfText(Call& call) {
  call.runtime().Spend(CheckedMul(Self(call).size(), kStep).value_or(kMaxWork));
  return ConvertSelf<python::Title>(call);
}

Value JoinWithText(Call& call) {
  const auto a = Bind(call, {"self", "iterable"}, 2);
  std::string out;
  bool first = true;
  for (const Value& item : ItemsOf(*a[1], call.runtime())) {
    const std::string& part = TextOf(item, "an item of join");
    call.runtime().Spend(part.size() + Self(call).size());
    if (!first) out += Self(call);
    first = false;
    out += part;
  }
  return out;
}

size_t Occurrences(std::string_view text, std::string_view part) {
  if (part.empty()) return static_cast<size_t>(python::Length(text)) + 1;
  size_t count = 0;
  for (size_t at = python::Find(text, part); at != std::string_view::npos;
       at = python::Find(text, part)) {
    ++count;
    text.remove_prefix(at + part.size());
  }
  return count;
}

Value ReplaceInText(Call& call) {
  const auto a = Bind(call, {"self", "old", "new", "count"}, 3);
  const std::string& old = TextOf(*a[1], "what replace looks for");
  const std::string& replacement = TextOf(*a[2], "the replacement");
  const int64_t count = Given(a[3]) ? IntegerOf(*a[3], "count") : -1;
  call.runtime().Spend(Self(call).size() + old.size());
  const auto grown =
      CheckedMul(Occurrences(Self(call), old), replacement.size());
  call.runtime().Spend(grown.value_or(kMaxWork));
  return call.Text(python::Replace(Self(call), old, replacement, count));
}

Value CountInText(Call& call) {
  const auto a = Bind(call, {"self", "sub"}, 2);
  const std::string& part = TextOf(*a[1], "what count looks for");
  call.runtime().Spend(Self(call).size() + part.size());
  return static_cast<int64_t>(Occurrences(Self(call), part));
}

// find, rfind, index, rindex.
template <bool from_right, bool must>
Value FindInText(Call& call) {
  const auto a = Bind(call, {"self", "sub"}, 2);
  const std::string& part = TextOf(*a[1], "what find looks for");
  const std::string_view text = Self(call);
  call.runtime().Spend(text.size() + part.size());
  size_t at = python::Find(text, part);
  if (from_right && at != std::string::npos) {
    const std::string mirrored(text.rbegin(), text.rend());
    at = text.size() - part.size() -
         python::Find(mirrored, std::string(part.rbegin(), part.rend()));
  }
  if (at != std::string::npos) return python::Length(text.substr(0, at));
  if (must) Fail(ErrorKind::kUserInput, "index: not found in the str");
  return int64_t{-1};
}

// Before, the separator, behind; the whole text when it is not there.
template <bool from_right>
Value PartitionText(Call& call) {
  const auto a = Bind(call, {"self", "sep"}, 2);
  const std::string& separator = TextOf(*a[1], "the separator of partition");
  if (separator.empty()) {
    Fail(ErrorKind::kUserInput, "the separator of partition is empty");
  }
  call.runtime().Spend(Self(call).size() * 2 + separator.size());
  std::vector<std::string> parts;
  python::Split(Self(call), separator, 1,
                from_right ? python::From::kRight : python::From::kLeft,
                [&](std::string_view part) { parts.emplace_back(part); });
  if (parts.size() == 1) {
    parts.insert(from_right ? parts.begin() : parts.end(), 2, "");
  } else {
    if (from_right) std::swap(parts[0], parts[1]);
    parts.insert(parts.begin() + 1, separator);
  }
  return Value::MakeList({parts[0], parts[1], parts[2]}, Kind::kTuple);
}

template <python::Side side>
Value JustifyText(Call& call) {
  const auto a = Bind(call, {"self", "width", "fillchar"}, 2);
  const int64_t width = IntegerOf(*a[1], "width");
  const std::string fill =
      a[2] == nullptr ? " " : TextOf(*a[2], "the fill character");
  if (python::Length(fill) != 1) {
    Fail(ErrorKind::kUserInput, "a fill of {} characters, expected 1",
         python::Length(fill));
  }
  call.runtime().Spend(Self(call).size());
  const auto fills = static_cast<uint64_t>(std::max<int64_t>(width, 0));
  call.runtime().Spend(CheckedMul(fills, fill.size()).value_or(kMaxWork));
  return python::Justify(Self(call), width, fill, side);
}

Value ZeroFill(Call& call) {
  const auto a = Bind(call, {"self", "width"}, 2);
  const int64_t width = IntegerOf(*a[1], "width");
  call.runtime().Spend(Self(call).size());
  call.runtime().Spend(static_cast<uint64_t>(std::max<int64_t>(width, 0)));
  std::string_view text = Self(call);
  const bool has_sign = text.starts_with('-') || text.starts_with('+');
  const std::string sign(text.substr(0, has_sign ? 1 : 0));
  text.remove_prefix(sign.size());
  return sign + python::Justify(text, width - (has_sign ? 1 : 0), "0",
                                python::Side::kRight);
}

Value FormatText(Call& call) {
  Arguments rest = call.arguments();
  rest.positional.erase(rest.positional.begin());
  return FormatBraces(Self(call), rest, call.runtime());
}

template <bool (*holds)(std::string_view)>
Value TextHolds(Call& call) {
  Bind(call, {"self"}, 1);
  call.runtime().Spend(Self(call).size() * 4);
  return holds(Self(call));
}

bool IsAscii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return (c & 0x80) == 0; });
}

template <bool (*all)(char32_t)>
Value AllCharacters(Call& call) {
  Bind(call, {"self"}, 1);
  call.runtime().Spend(Self(call).size());
  return !Self(call).empty() &&
         std::ranges::all_of(python::Decode(Self(call)), all);
}

const Mapping& MappingOf(const Call& call) {
  return *call.arguments().positional[0].AsMapping();
}

Value GetOfMapping(Call& call) {
  const auto a = Bind(call, {"self", "key", "default"}, 2);
  const Value* value = call.runtime().Find(MappingOf(call).items, *a[1]);
  if (value != nullptr) return *value;
  return a[2] == nullptr ? Value(None{}) : *a[2];
}

Value ItemsOfMapping(Call& call) {
  const auto a = Bind(call, {"self"}, 1);
  return Value::MakeList(PairsOf(*a[0]->AsMapping(), call.runtime()),
                         Kind::kPairs);
}

Value KeysOfMapping(Call& call) {
  const auto a = Bind(call, {"self"}, 1);
  return Value::MakeList(ItemsOf(*a[0], call.runtime()), Kind::kKeys);
}

Value ValuesOfMapping(Call& call) {
  Bind(call, {"self"}, 1);
  std::vector<Value> values;
  for (const auto& [unused, value] : MappingOf(call).items) {
    values.push_back(value);
  }
  return call.List(std::move(values), Kind::kValues);
}

// Of a dict or list; what is in it is shared, and never changes.
Value Copy(Call& call) { return *Bind(call, {"self"}, 1)[0]; }

Value CountInList(Call& call) {
  const auto a = Bind(call, {"self", "value"}, 2);
  call.runtime().Spend(a[0]->extent().weight);
  return static_cast<int64_t>(std::ranges::count_if(
      a[0]->AsSequence()->items,
      [&](const Value& item) { return Equal(item, *a[1]); }));
}

Value IndexInList(Call& call) {
  const auto a = Bind(call, {"self", "value"}, 2);
  call.runtime().Spend(a[0]->extent().weight);
  const auto& items = a[0]->AsSequence()->items;
  const auto it = std::ranges::find_if(
      items, [&](const Value& item) { return Equal(item, *a[1]); });
  if (it == items.end()) {
    Fail(ErrorKind::kUserInput, "index: the value is not in the list");
  }
  return static_cast<int64_t>(it - items.begin());
}

constexpr NamedFunction kOfText[] = {
    {"capitalize", ConvertSelf<python::Capitalize>},
    {"center", JustifyText<python::Side::kMiddle>},
    {"count", CountInText},
    {"endswith", Begins<true>},
    {"find", FindInText<false, false>},
    {"format", FormatText},
    {"index", FindInText<false, true>},
    {"isalnum", AllCharacters<python::IsAlnum>},
    {"isalpha", AllCharacters<python::IsAlpha>},
    {"isascii", TextHolds<IsAscii>},
    {"isdecimal", AllCharacters<python::IsDecimal>},
    {"isdigit", AllCharacters<python::IsDigit>},
    {"islower", TextHolds<python::IsLower>},
    {"isnumeric", AllCharacters<python::IsNumeric>},
    {"isspace", AllCharacters<python::IsSpace>},
    {"isupper", TextHolds<python::IsUpper>},
    {"join", JoinWithText},
    {"ljust", JustifyText<python::Side::kLeft>},
    {"lower", ConvertSelf<python::Lower>},
    {"lstrip", StripText<Sides::kLeft>},
    {"partition", PartitionText<false>},
    {"removeprefix", RemoveEnd<false>},
    {"removesuffix", RemoveEnd<true>},
    {"replace", ReplaceInText},
    {"rfind", FindInText<true, false>},
    {"rindex", FindInText<true, true>},
    {"rjust", JustifyText<python::Side::kRight>},
    {"rpartition", PartitionText<true>},
    {"rsplit", SplitText<python::From::kRight>},
    {"rstrip", StripText<Sides::kRight>},
    {"split", SplitText<python::From::kLeft>},
    {"splitlines", SplitLinesOfText},
    {"startswith", Begins<false>},
    {"strip", StripText<Sides::kBoth>},
    {"title", TitleOfText},
    {"upper", ConvertSelf<python::Upper>},
    {"zfill", ZeroFill},
};
constexpr NamedFunction kOfMapping[] = {
    {"copy", Copy},
    {"get", GetOfMapping},
    {"items", ItemsOfMapping},
    {"keys", KeysOfMapping},
    {"values", ValuesOfMapping},
};
constexpr NamedFunction kOfSequence[] = {
    {"copy", Copy},
    {"count", CountInList},
    {"index", IndexInList},
};

// What Python has beside these; those that change a value are refused by
// jinja2's sandbox, too.
constexpr std::string_view kOtherOfText[] = {
    "casefold",    "encode",  "expandtabs", "format_map", "isidentifier",
    "isprintable", "istitle", "maketrans",  "swapcase",   "translate"};
constexpr std::string_view kOtherOfMapping[] = {
    "clear", "fromkeys", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kOtherOfSequence[] = {
    "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"};

constexpr std::string_view kOfNumber[] = {
    "as_integer_ratio", "bit_count", "bit_length", "conjugate", "denominator",
    "from_bytes",       "fromhex",   "hex",        "imag",      "is_integer",
    "numerator",        "real",      "to_bytes"};

template <size_t known, size_t others>
NativeFunction Find(const NamedFunction (&table)[known],
                    const std::string_view (&other)[others], const char* type,
                    std::string_view name) {
  const NativeFunction function = FindNamed(table, name);
  if (function == nullptr &&
      std::ranges::find(other, name) != std::end(other)) {
    Fail(ErrorKind::kUnsupported, "{}.{} is not supported", type, name);
  }
  return function;
}

}  // namespace

NativeFunction FindMethod(const Value& self, std::string_view name) {
  if (self.AsString() != nullptr) {
    return Find(kOfText, kOtherOfText, "str", name);
  }
  if (self.AsMapping() != nullptr) {
    return Find(kOfMapping, kOtherOfMapping, "dict", name);
  }
  if (const Sequence* sequence = self.AsSequence(); sequence != nullptr) {
    const bool tuple = sequence->kind == Kind::kTuple;
    if (tuple && name == "copy") return nullptr;
    // Of what groupby gives.
    if (tuple && (name == "grouper" || name == "list")) {
      Fail(ErrorKind::kUnsupported, "tuple.{} is not supported", name);
    }
    return Find(kOfSequence, kOtherOfSequence, "list", name);
  }
  if (self.AsNumber() &&
      std::ranges::find(kOfNumber, name) != std::end(kOfNumber)) {
    Fail(ErrorKind::kUnsupported, "{}.{} is not supported", self.TypeName(),
         name);
  }
  return nullptr;
}

}  // namespace mobe::jinja
