#include "jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <compare>
#include <unordered_map>

#include "base/checked.h"
#include "base/error.h"
#include "base/unicode.h"
#include "jinja/python_text.h"

namespace mobe::jinja {
namespace {

uint64_t AddSaturated(uint64_t a, uint64_t b) {
  return CheckedAdd(a, b).value_or(UINT64_MAX);
}

// Of a list or dict, from its items one by one.
class ExtentSum {
 public:
  void Add(const Extent& item) {
    depth_ = std::max(depth_, item.depth);
    weight_ = AddSaturated(weight_, item.weight);
  }
  Extent Total() const {
    if (depth_ >= kMaxValueDepth) {
      Fail(ErrorKind::kUnsupported, "values are nested deeper than {} levels",
           kMaxValueDepth);
    }
    return {depth_ + 1, weight_};
  }

 private:
  int depth_ = 0;
  uint64_t weight_ = 16;  // brackets and the like
};

// How sequences are called and print; without `open` they don't.
struct Form {
  const char* name;
  const char* open = nullptr;
  const char* close = nullptr;
};

const Form& FormOf(const Sequence& sequence) {
  static constexpr Form kForms[] = {
      {"list", "[", "]"},
      {"tuple", "(", ")"},
      {"a range", "range(", ")"},
      {"dict_keys", "dict_keys([", "])"},
      {"dict_values", "dict_values([", "])"},
      {"dict_items", "dict_items([", "])"},
      {"an iterator, as map, select and the like give it,"}};
  return kForms[static_cast<size_t>(sequence.kind)];
}

// JSON's escapes; json.dumps leaves DEL alone.
std::string JsonString(std::string_view text, bool ensure_ascii) {
  std::string out = "\"";
  const auto unit = [&out](uint32_t u) { out += fmt::format("\\u{:04x}", u); };
  for (const char32_t c : python::Decode(text)) {
    constexpr std::string_view kEscaped = "\"\\\n\r\t\b\f";
    constexpr std::string_view kLetters = "\"\\nrtbf";
    const size_t i =
        c < 0x80 ? kEscaped.find(static_cast<char>(c)) : std::string_view::npos;
    if (i != std::string_view::npos) {
      out += '\\';
      out += kLetters[i];
    } else if (c < 0x20 || (ensure_ascii && c > 0x7e && c < 0x10000)) {
      unit(c);
    } else if (ensure_ascii && c >= 0x10000) {
      unit(0xd800 + ((c - 0x10000) >> 10));
      unit(0xdc00 + ((c - 0x10000) & 0x3ff));
    } else {
      AppendUtf8(c, out);
    }
  }
  return out + '"';
}

std::string JsonNumber(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return python::Repr(value);
}

// Pairs in the order of their keys.
std::vector<const std::pair<Value, Value>*> Sorted(const Mapping& mapping) {
  std::vector<const std::pair<Value, Value>*> items;
  for (const auto& item : mapping.items) items.push_back(&item);
  std::ranges::stable_sort(items, [](const auto* a, const auto* b) {
    return Order(a->first, b->first) < 0;
  });
  return items;
}

// A key as json.dumps writes it.
std::string JsonKey(const Value& key) {
  if (const std::string* text = key.AsString()) return *text;
  if (const bool* b = key.AsBool()) return *b ? "true" : "false";
  if (const double* number = key.AsFloat()) return JsonNumber(*number);
  if (key.IsNone()) return "null";
  if (key.AsLong() != nullptr || key.AsInteger()) return Repr(key);
  Fail(ErrorKind::kUserInput, "tojson: {} can't be a key", key.TypeName());
}

class JsonWriter {
 public:
  explicit JsonWriter(const JsonFormat& format) : format_(format) {}

  std::string Write(const Value& value) {
    Add(value);
    return std::move(out_);
  }

 private:
  void Add(const Value& value) {
    if (value.IsNone()) {
      out_ += "null";
    } else if (const bool* b = value.AsBool()) {
      out_ += *b ? "true" : "false";
    } else if (const double* number = value.AsFloat()) {
      out_ += JsonNumber(*number);
    } else if (const auto integer = value.AsInteger()) {
      out_ += std::to_string(*integer);
    } else if (const std::string* digits = value.AsLong()) {
      out_ += *digits;
    } else if (const std::string* text = value.AsString()) {
      out_ += JsonString(*text, format_.ensure_ascii);
    } else if (const Sequence* sequence = value.AsSequence();
               sequence != nullptr && sequence->IsListOrTuple()) {
      AddAll('[', ']', sequence->items, [this](const Value& v) { Add(v); });
    } else if (const Mapping* mapping = value.AsMapping()) {
      const auto add = [this](const auto& item) {
        out_ += JsonString(JsonKey(item.first), format_.ensure_ascii);
        out_ += format_.key_separator;
        Add(item.second);
      };
      if (format_.sort_keys) {
        AddAll('{', '}', Sorted(*mapping), [&](const auto* i) { add(*i); });
      } else {
        AddAll('{', '}', mapping->items, add);
      }
    } else {
      Fail(ErrorKind::kUserInput, "tojson: {} can't be written as JSON",
           value.TypeName());
    }
  }

  template <class Items, class AddItem>
  void AddAll(char open, char close, const Items& items, const AddItem& add) {
    out_ += open;
    if (!items.empty()) {
      ++level_;
      for (size_t i = 0; i < items.size(); ++i) {
        if (i > 0) out_ += format_.item_separator;
        NewLine();
        add(items[i]);
      }
      --level_;
      NewLine();
    }
    out_ += close;
  }

  void NewLine() {
    if (!format_.indent) return;
    out_ += '\n';
    for (int i = 0; i < level_; ++i) out_ += *format_.indent;
  }

  const JsonFormat& format_;
  std::string out_;
  int level_ = 0;
};

uint64_t SizeOfKeys(const Mapping& mapping) {
  uint64_t size = 0;
  for (const auto& [key, unused] : mapping.items) size += key.extent().weight;
  return size;
}

// Of the same kind.
bool EqualItems(const Sequence& a, const Sequence& b) {
  switch (a.kind) {
    case Kind::kValues:
    case Kind::kIterator:
      return false;  // they equal themselves only
    case Kind::kKeys:
    case Kind::kPairs:
      Fail(ErrorKind::kUnsupported, "{} can't be compared", FormOf(a).name);
    default:
      return std::ranges::equal(a.items, b.items, Equal);
  }
}

// Sizes first, so that the work is bounded by the smaller one.
bool EqualItems(const Mapping& a, const Mapping& b) {
  if (a.items.size() != b.items.size() || SizeOfKeys(a) != SizeOfKeys(b)) {
    return false;
  }
  std::unordered_map<std::string, const Value*> of_b;
  for (const auto& [key, value] : b.items) of_b.emplace(KeyText(key), &value);
  return std::ranges::all_of(a.items, [&](const auto& item) {
    const auto it = of_b.find(KeyText(item.first));
    return it != of_b.end() && Equal(item.second, *it->second);
  });
}

std::string ReprOfScalar(const Value& value) {
  if (value.IsUndefined()) return "Undefined";
  if (value.IsNone()) return "None";
  if (const bool* b = value.AsBool()) return *b ? "True" : "False";
  if (const double* number = value.AsFloat()) return python::Repr(*number);
  if (const auto integer = value.AsInteger()) return std::to_string(*integer);
  if (const std::string* digits = value.AsLong()) return *digits;
  if (value.IsMarkup()) {
    return "Markup(" + python::Repr(*value.AsString()) + ")";
  }
  if (const std::string* text = value.AsString()) return python::Repr(*text);
  Fail(ErrorKind::kUnsupported, "{} can't be printed", value.TypeName());
}

// Appends, so that each byte is written once, however deep it is.
void AddRepr(const Value& value, std::string* out) {
  const char* between = "";
  const auto separate = [&] { *out += std::exchange(between, ", "); };
  if (const Sequence* sequence = value.AsSequence()) {
    const Form& form = FormOf(*sequence);
    if (form.open == nullptr) {
      Fail(ErrorKind::kUnsupported, "{} can't be printed", form.name);
    }
    *out += form.open;
    if (sequence->kind == Kind::kRange) {
      const auto& [start, stop, step] = sequence->bounds;
      *out += fmt::format("{}, {}", start, stop);
      if (step != 1) *out += fmt::format(", {}", step);
      *out += form.close;
      return;
    }
    for (const Value& item : sequence->items) {
      separate();
      AddRepr(item, out);
    }
    const bool single =
        sequence->kind == Kind::kTuple && sequence->items.size() == 1;
    *out += single ? ",)" : form.close;
  } else if (const Mapping* mapping = value.AsMapping()) {
    *out += '{';
    for (const auto& [key, item] : mapping->items) {
      separate();
      AddRepr(key, out);
      *out += ": ";
      AddRepr(item, out);
    }
    *out += '}';
  } else {
    *out += ReprOfScalar(value);
  }
}

// Exact, though a float can't hold every integer.
std::partial_ordering Compare(int64_t integer, double number) {
  constexpr double kEnd = 9223372036854775808.0;  // 2^63
  if (number >= kEnd) return std::partial_ordering::less;
  if (number < -kEnd) return std::partial_ordering::greater;
  if (std::isnan(number)) return std::partial_ordering::unordered;
  const double whole = std::trunc(number);
  const auto order = integer <=> static_cast<int64_t>(whole);
  return order != 0 ? std::partial_ordering(order) : whole <=> number;
}

// Of whole numbers by their digits.
std::strong_ordering CompareDigits(std::string_view a, std::string_view b) {
  const bool negative = a.starts_with('-');
  if (negative != b.starts_with('-')) {
    return negative ? std::strong_ordering::less
                    : std::strong_ordering::greater;
  }
  if (negative) return CompareDigits(b.substr(1), a.substr(1));
  if (a.size() != b.size()) return a.size() <=> b.size();
  return a.compare(b) <=> 0;
}

// Of numbers of which one is beyond 64 bits.
std::partial_ordering CompareLong(const Value& a, const Value& b) {
  const auto digits = [](const Value& value) -> std::string {
    const double* number = value.AsFloat();
    // What is behind the point does not count beside so large a number.
    return number != nullptr
               ? fmt::format("{:.0f}", std::trunc(*number))
               : Repr(value.AsLong() ? value : Value(*value.AsInteger()));
  };
  for (const Value* value : {&a, &b}) {
    const double* number = value->AsFloat();
    if (number == nullptr || std::isfinite(*number)) continue;
    if (std::isnan(*number)) return std::partial_ordering::unordered;
    return (*number < 0) == (value == &a) ? std::partial_ordering::less
                                          : std::partial_ordering::greater;
  }
  return CompareDigits(digits(a), digits(b));
}

bool IsAnyNumber(const Value& value) {
  return value.AsNumber().has_value() || value.AsLong() != nullptr;
}

std::partial_ordering OrderOfNumbers(const Value& a, const Value& b) {
  if (a.AsLong() != nullptr || b.AsLong() != nullptr) return CompareLong(a, b);
  const auto i = a.AsInteger(), j = b.AsInteger();
  if (i && j) return *i <=> *j;
  if (i) return Compare(*i, *b.AsFloat());
  if (j) {
    const auto order = Compare(*j, *a.AsFloat());
    return order < 0   ? std::partial_ordering::greater
           : order > 0 ? std::partial_ordering::less
                       : order;
  }
  return *a.AsFloat() <=> *b.AsFloat();
}

std::optional<int> ToInt(std::partial_ordering order) {
  if (order == std::partial_ordering::unordered) return std::nullopt;
  return order < 0 ? -1 : order > 0 ? 1 : 0;
}

}  // namespace

Value Value::MakeUndefined(std::string name) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(name))};
  return value;
}

Value Value::MakeList(std::vector<Value> items, Kind kind) {
  ExtentSum sum;
  for (const Value& item : items) sum.Add(item.extent());
  Value value;
  value.data_ = std::make_shared<const Sequence>(
      Sequence{std::move(items), kind, sum.Total()});
  return value;
}

Value Value::MakeRange(std::vector<Value> numbers, Bounds bounds) {
  Value value;
  const Extent extent{1, 16 + numbers.size()};
  value.data_ = std::make_shared<const Sequence>(
      Sequence{std::move(numbers), Kind::kRange, extent, bounds});
  return value;
}

Value Value::MakeMarkup(std::string text) {
  Value value(std::move(text));
  value.markup_ = true;
  return value;
}

std::optional<Value> Value::ReadInteger(std::string_view digits) {
  constexpr size_t kMaxDigits = 4300;
  const bool negative = digits.starts_with('-');
  std::string_view plain = digits.substr(negative ? 1 : 0);
  if (plain.empty() || plain.size() > kMaxDigits ||
      plain.find_first_not_of("0123456789") != std::string_view::npos) {
    return std::nullopt;
  }
  plain.remove_prefix(std::min(plain.find_first_not_of('0'), plain.size() - 1));
  std::string whole(plain);
  if (negative) whole.insert(whole.begin(), '-');
  int64_t integer = 0;
  const char* end = whole.data() + whole.size();
  if (std::from_chars(whole.data(), end, integer).ec == std::errc()) {
    return Value(integer);
  }
  Value value;
  value.data_ = LongInteger{std::make_shared<const std::string>(whole)};
  return value;
}

Value Value::MakeMapping(MappingItems items) {
  ExtentSum sum;
  for (const auto& [key, item] : items) {
    sum.Add(key.extent());
    sum.Add(item.extent());
  }
  Value value;
  value.data_ =
      std::make_shared<const Mapping>(Mapping{std::move(items), sum.Total()});
  return value;
}

Value Value::FromJson(const OrderedJson& json) {
  switch (json.type()) {
    case OrderedJson::value_t::boolean:
      return json.get<bool>();
    case OrderedJson::value_t::number_unsigned:
      return *ReadInteger(std::to_string(json.get<uint64_t>()));
    case OrderedJson::value_t::number_integer:
      return json.get<int64_t>();
    case OrderedJson::value_t::number_float:
      return json.get<double>();
    case OrderedJson::value_t::string:
      return ReplaceInvalidUtf8(json.get_ref<const std::string&>());
    case OrderedJson::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const OrderedJson& item : json) items.push_back(FromJson(item));
      return MakeList(std::move(items));
    }
    case OrderedJson::value_t::object: {
      MappingItems items;
      items.reserve(json.size());
      for (const auto& [key, item] : json.items()) {
        items.emplace_back(ReplaceInvalidUtf8(key), FromJson(item));
      }
      return MakeMapping(std::move(items));
    }
    case OrderedJson::value_t::binary: {
      const auto& digits = json.get_binary();
      const auto integer =
          ReadInteger(std::string(digits.begin(), digits.end()));
      if (integer) return *integer;
      Fail(ErrorKind::kUserInput, "an integer of {} digits", digits.size());
    }
    default:
      return None{};
  }
}

std::optional<int64_t> Value::AsInteger() const {
  if (const bool* b = AsBool()) return *b ? 1 : 0;
  if (const auto* i = std::get_if<int64_t>(&data_)) return *i;
  return std::nullopt;
}

std::optional<double> Value::AsNumber() const {
  if (const double* d = AsFloat()) return *d;
  if (const auto i = AsInteger()) return static_cast<double>(*i);
  return std::nullopt;
}

const std::string* Value::AsString() const {
  const auto* p = std::get_if<std::shared_ptr<const std::string>>(&data_);
  return p == nullptr ? nullptr : p->get();
}

const Sequence* Value::AsSequence() const {
  const auto* p = std::get_if<std::shared_ptr<const Sequence>>(&data_);
  return p == nullptr ? nullptr : p->get();
}

const std::string* Value::AsLong() const {
  const auto* p = std::get_if<LongInteger>(&data_);
  return p == nullptr ? nullptr : p->digits.get();
}

const Mapping* Value::AsMapping() const {
  const auto* p = std::get_if<std::shared_ptr<const Mapping>>(&data_);
  return p == nullptr ? nullptr : p->get();
}

Namespace* Value::AsNamespace() const {
  const auto* p = std::get_if<Namespace*>(&data_);
  return p == nullptr ? nullptr : *p;
}

std::string Value::TypeName() const {
  if (const auto* undefined = std::get_if<Undefined>(&data_)) {
    if (undefined->name == nullptr) return "an undefined value";
    return *undefined->name + ", which is undefined,";
  }
  static constexpr const char* kNames[] = {
      "",    "None", "bool", "int",       "float",     "int",
      "str", "list", "dict", "namespace", "a function"};
  if (IsMarkup()) return "a str that went through safe";
  const Sequence* sequence = AsSequence();
  return sequence != nullptr ? FormOf(*sequence).name : kNames[data_.index()];
}

bool Value::Truthy() const {
  if (IsUndefined() || IsNone()) return false;
  if (const auto number = AsNumber()) return *number != 0;
  if (const std::string* text = AsString()) return !text->empty();
  if (const Sequence* sequence = AsSequence()) {
    return sequence->kind == Kind::kIterator || !sequence->items.empty();
  }
  if (const Mapping* mapping = AsMapping()) return !mapping->items.empty();
  return true;
}

Extent Value::extent() const {
  if (const std::string* text = AsString()) return {0, text->size() + 2};
  if (const std::string* digits = AsLong()) return {0, digits->size()};
  if (const Sequence* sequence = AsSequence()) return sequence->extent;
  if (const Mapping* mapping = AsMapping()) return mapping->extent;
  const Callable* callable = AsCallable();
  const bool method = callable != nullptr && callable->self != nullptr;
  return method ? callable->self->extent() : Extent{};
}

std::string ToString(const Value& value) {
  if (value.IsUndefined()) return "";
  if (const std::string* text = value.AsString()) return *text;
  return Repr(value);
}

std::string Repr(const Value& value) {
  std::string out;
  AddRepr(value, &out);
  return out;
}

std::string ToJson(const Value& value, const JsonFormat& format) {
  return JsonWriter(format).Write(value);
}

bool Equal(const Value& a, const Value& b) {
  if (a.AsCallable() && b.AsCallable()) {
    Fail(ErrorKind::kUnsupported, "functions can't be compared");
  }
  const auto i = a.AsInteger(), j = b.AsInteger();
  if (i && j) return *i == *j;
  const bool x = IsAnyNumber(a), y = IsAnyNumber(b);
  if (x || y) return x && y && OrderOfNumbers(a, b) == 0;
  const std::string *s = a.AsString(), *t = b.AsString();
  if (s || t) return s && t && *s == *t;
  const Sequence *l = a.AsSequence(), *m = b.AsSequence();
  if (l || m) {
    return l && m && (l == m || (l->kind == m->kind && EqualItems(*l, *m)));
  }
  const Mapping *d = a.AsMapping(), *e = b.AsMapping();
  if (d || e) return d && e && (d == e || EqualItems(*d, *e));
  if (a.AsNamespace() || b.AsNamespace()) {
    return a.AsNamespace() == b.AsNamespace();
  }
  return (a.IsNone() && b.IsNone()) || (a.IsUndefined() && b.IsUndefined());
}

std::string KeyText(const Value& key) {
  const auto whole_number = key.AsInteger();
  const std::string *text_key = key.AsString(), *digits = key.AsLong();
  if (text_key != nullptr) return fmt::format("s{}", *text_key);
  if (key.IsNone()) return "n";
  if (whole_number) return fmt::format("i{}", *whole_number);
  if (digits != nullptr) return fmt::format("i{}", *digits);
  if (const double* number = key.AsFloat()) {
    const bool whole = std::isfinite(*number) && std::trunc(*number) == *number;
    return whole ? fmt::format("i{:.0f}", *number + 0.0)
                 : fmt::format("f{}", python::Repr(*number));
  }
  const Sequence* tuple = key.AsSequence();
  if (tuple == nullptr || tuple->kind != Kind::kTuple) {
    const bool hashable = key.IsUndefined() || key.AsCallable() != nullptr ||
                          key.AsNamespace() != nullptr;
    Fail(hashable ? ErrorKind::kUnsupported : ErrorKind::kUserInput,
         "{} as a key of a dict", key.TypeName());
  }
  std::string text = "t";
  for (const Value& item : tuple->items) {
    const std::string part = KeyText(item);
    text += fmt::format("{}:{}", part.size(), part);
  }
  return text;
}

std::optional<int> Order(const Value& a, const Value& b) {
  const auto i = a.AsInteger(), j = b.AsInteger();
  if (i && j) return ToInt(*i <=> *j);
  if (IsAnyNumber(a) && IsAnyNumber(b)) return ToInt(OrderOfNumbers(a, b));
  const std::string *s = a.AsString(), *t = b.AsString();
  // The order of the bytes of UTF-8 is that of the code points.
  if (s && t) return ToInt(*s <=> *t);
  const Sequence *l = a.AsSequence(), *m = b.AsSequence();
  if (l && m && l->kind == m->kind && l->IsListOrTuple()) {
    const size_t common = std::min(l->items.size(), m->items.size());
    for (size_t k = 0; k < common; ++k) {
      if (Equal(l->items[k], m->items[k])) continue;
      return Order(l->items[k], m->items[k]);
    }
    return ToInt(l->items.size() <=> m->items.size());
  }
  Fail(ErrorKind::kUserInput, "{} and {} have no order", a.TypeName(),
       b.TypeName());
}

}  // namespace mobe::jinja
