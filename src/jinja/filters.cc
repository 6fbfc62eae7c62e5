// Filters, as jinja2 3.1 has them without autoescape; tojson as transformers
// has it.
#include "jinja/filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/checked.h"
#include "base/error.h"
#include "jinja/arithmetic.h"
#include "jinja/python_text.h"

namespace mobe::jinja {
namespace {

Value AttributeOnly(Call& call) {
  const auto a = call.Bind({"obj", "name"}, 2);
  return OwnAttributeOf(*a[0], TextOf(*a[1], "an attribute"), call.runtime());
}

Value Default(Call& call) {
  const auto a = call.Bind({"value", "default_value", "boolean"}, 1);
  const bool replaced = a[0]->IsUndefined() || (Flag(a[2]) && !a[0]->Truthy());
  if (!replaced) return *a[0];
  return a[1] == nullptr ? Value("") : *a[1];
}

// Also of what has no order of its own: the first that a loop would give.
Value First(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  const std::optional<Value> item = Iteration(*a[0], &call.runtime()).Next();
  return item ? *item : Value::MakeUndefined("the first item of nothing");
}

Value Last(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  if (IsIterator(*a[0])) {
    Fail(ErrorKind::kUserInput, "last of {} which has no end to begin from",
         a[0]->TypeName());
  }
  const std::vector<Value> items = ItemsOf(*a[0], call.runtime());
  if (items.empty()) return Value::MakeUndefined("the last item of nothing");
  return items.back();
}

Value Length(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  if (const auto length = LengthOf(*a[0], call.runtime())) return *length;
  Fail(ErrorKind::kUserInput, "{} has no length", a[0]->TypeName());
}

Value ListOf(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  return Value::MakeList(ItemsOf(*a[0], call.runtime()));
}

// Pairs of a dict; none of an undefined value.
Value Items(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  std::vector<Value> pairs;
  const Mapping* mapping = a[0]->AsMapping();
  if (mapping == nullptr && !a[0]->IsUndefined()) {
    Fail(ErrorKind::kUserInput, "items of {}, expected a dict",
         a[0]->TypeName());
  }
  if (mapping != nullptr) pairs = PairsOf(*mapping, call.runtime());
  return Value::MakeList(std::move(pairs), Kind::kIterator);
}

Value Join(Call& call) {
  const auto a = call.Bind({"value", "d", "attribute"}, 1);
  std::string between;
  if (a[1] != nullptr) between = PrintedOf(*a[1], call.runtime());
  std::optional<Path> path;
  if (a[2] != nullptr) path.emplace(*a[2], &call.runtime());
  std::string out;
  bool first = true;
  for (const Value& item : ItemsOf(*a[0], call.runtime())) {
    const Value part = path ? path->Of(item) : item;
    call.runtime().Spend(between.size());
    if (!first) out += between;
    first = false;
    out += PrintedOf(part, call.runtime());
  }
  return out;
}

// The rest of the arguments, behind `skip` of them and `subject`.
Arguments Behind(const Call& call, size_t skip, Value subject) {
  Arguments rest;
  rest.positional.push_back(std::move(subject));
  const auto& all = call.arguments().positional;
  rest.positional.insert(rest.positional.end(),
                         all.begin() + static_cast<int64_t>(skip), all.end());
  return rest;
}

const Value& Positional(const Call& call, size_t i, std::string_view what) {
  if (call.arguments().positional.size() <= i) {
    Fail(ErrorKind::kUserInput, "{} is missing", what);
  }
  return call.arguments().positional[i];
}

// map('upper'), map('replace', 'a', 'b'), map(attribute='name', default='').
Value Map(Call& call) {
  std::vector<Value> mapped;
  const std::vector<Value> items =
      Borrowed(call, Positional(call, 0, "what map goes through"));
  if (call.arguments().positional.size() > 1) {
    const NativeFunction filter =
        FindFilter(TextOf(call.arguments().positional[1], "a filter's name"));
    for (const Value& item : items) {
      Arguments arguments = Behind(call, 2, item);
      arguments.named = call.arguments().named;
      Call inner(&call.runtime(), std::move(arguments));
      mapped.push_back(filter(inner));
    }
    return call.List(std::move(mapped), Kind::kIterator);
  }
  const auto a = call.Bind({"value", "attribute", "default"}, 2);
  const Path path(*a[1], &call.runtime());
  for (const Value& item : items) {
    Value value = path.Of(item);
    if (value.IsUndefined() && a[2] != nullptr) value = *a[2];
    mapped.push_back(std::move(value));
  }
  return call.List(std::move(mapped), Kind::kIterator);
}

// select, reject: by a test of the item; selectattr, rejectattr: of its
// attribute. Without a test what is true is selected.
template <bool by_attribute, bool wanted>
Value Select(Call& call) {
  constexpr size_t kTest = by_attribute ? 2 : 1;
  if (!call.arguments().named.empty()) {
    Fail(ErrorKind::kUnsupported, "unexpected argument \"{}\"",
         call.arguments().named[0].first);
  }
  NativeFunction test = nullptr;
  if (call.arguments().positional.size() > kTest) {
    test =
        FindTest(TextOf(call.arguments().positional[kTest], "a test's name"));
  }
  std::optional<Path> path;
  if (by_attribute) {
    path.emplace(Positional(call, 1, "the attribute"), &call.runtime());
  }
  std::vector<Value> selected;
  for (const Value& item :
       Borrowed(call, Positional(call, 0, "what is selected from"))) {
    const Value subject = path ? path->Of(item) : item;
    bool holds = subject.Truthy();
    if (test != nullptr) {
      Call inner(&call.runtime(), Behind(call, kTest + 1, subject));
      holds = test(inner).Truthy();
    }
    if (holds == wanted) selected.push_back(item);
  }
  return call.List(std::move(selected), Kind::kIterator);
}

// A text as a result, marked as `subject` is.
Value Alike(const Value& subject, std::string text) {
  return subject.IsMarkup() ? Value::MakeMarkup(std::move(text))
                            : Value(std::move(text));
}

Value Reverse(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  std::vector<Value> items = ItemsOf(*a[0], call.runtime());
  std::ranges::reverse(items);
  if (a[0]->AsString() == nullptr) {
    return Value::MakeList(std::move(items),
                           IsIterator(*a[0]) ? Kind::kList : Kind::kIterator);
  }
  std::string out;
  for (const Value& item : items) out += *item.AsString();
  return Alike(*a[0], std::move(out));
}

Value Trim(Call& call) {
  const auto a = call.Bind({"value", "chars"}, 1);
  const std::string text = PrintedOf(*a[0], call.runtime());
  std::optional<std::string_view> chars;
  if (a[1] != nullptr && !a[1]->IsNone()) chars = TextOf(*a[1], "chars");
  const auto work = CheckedMul(text.size(), chars ? chars->size() : 1);
  call.runtime().Spend(work.value_or(kMaxWork));
  if (chars) call.runtime().Spend(chars->size() * 4);
  return Alike(*a[0],
               std::string(python::Strip(text, python::Sides::kBoth, chars)));
}

template <std::string (*convert)(std::string_view)>
Value Convert(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  std::string text = convert(PrintedOf(*a[0], call.runtime()));
  call.runtime().Spend(text.size());
  return Alike(*a[0], std::move(text));
}

std::string Same(std::string_view text) { return std::string(text); }

Value Replace(Call& call) {
  const auto a = call.Bind({"value", "old", "new", "count"}, 3);
  Arguments arguments{{PrintedOf(*a[0], call.runtime()), *a[1], *a[2]}, {}};
  if (a[3] != nullptr) arguments.positional.push_back(*a[3]);
  Call inner(&call.runtime(), std::move(arguments));
  return FindMethod(inner.arguments().positional[0], "replace")(inner);
}

// Lines but the first are moved to the right; blank ones only when asked for.
Value Indent(Call& call) {
  const auto a = call.Bind({"value", "width", "first", "blank"}, 1);
  std::string indent(4, ' ');
  if (a[1] != nullptr && a[1]->AsString() != nullptr) {
    indent = *a[1]->AsString();
  } else if (a[1] != nullptr) {
    const int64_t width = std::max<int64_t>(0, IntegerOf(*a[1], "width"));
    call.runtime().Spend(static_cast<uint64_t>(width));
    indent.assign(static_cast<size_t>(width), ' ');
  }
  const bool blank = Flag(a[3]);
  const std::string& text = TextOf(*a[0], "what indent is of");
  call.runtime().Spend(text.size());
  std::string out;
  if (Flag(a[2])) out = indent;
  bool begun = false;
  // As jinja2 does: an end of the text is an end of a line.
  python::SplitLines(text + '\n', [&](std::string_view line) {
    call.runtime().Spend(kStep + indent.size() + line.size());
    if (begun) out += '\n';
    if (begun && (blank || !line.empty())) out += indent;
    out += line;
    begun = true;
  });
  return Alike(*a[0], std::move(out));
}

Value Absolute(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  if (const double* number = a[0]->AsFloat()) return std::fabs(*number);
  if (const std::string* digits = a[0]->AsLong()) {
    return digits->starts_with('-') ? Signed("-", *a[0]) : *a[0];
  }
  const int64_t integer = IntegerOf(*a[0], "what abs is of");
  return integer < 0 ? Signed("-", integer) : Value(integer);
}

Value Integer(Call& call) {
  const auto a = call.Bind({"value", "default"}, 1);
  if (a[0]->IsUndefined()) {
    Fail(ErrorKind::kUserInput, "int of {} nothing", a[0]->TypeName());
  }
  const Value fallback = a[1] == nullptr ? Value(int64_t{0}) : *a[1];
  if (const auto integer = a[0]->AsInteger()) return *integer;
  if (a[0]->AsLong() != nullptr) return *a[0];
  std::optional<double> number = a[0]->AsNumber();
  const std::string* text = a[0]->AsString();
  if (text != nullptr) {
    call.runtime().Spend(text->size() * 2);
    const std::string plain = python::PlainNumber(*text).value_or("");
    if (const auto integer = Value::ReadInteger(plain)) return *integer;
    number = python::ReadFloat(*text);
  }
  if (!number || std::isnan(*number)) return fallback;
  if (std::isinf(*number) && text != nullptr) return fallback;
  if (std::isinf(*number)) {
    Fail(ErrorKind::kUserInput, "int of an infinite float");
  }
  return *Value::ReadInteger(fmt::format("{:.0f}", std::trunc(*number)));
}

Value Float(Call& call) {
  const auto a = call.Bind({"value", "default"}, 1);
  if (a[0]->IsUndefined()) {
    Fail(ErrorKind::kUserInput, "float of {} nothing", a[0]->TypeName());
  }
  if (const auto number = a[0]->AsNumber()) return *number;
  if (const std::string* digits = a[0]->AsLong()) {
    return std::strtod(digits->c_str(), nullptr);
  }
  if (const std::string* text = a[0]->AsString()) {
    call.runtime().Spend(text->size() * 2);
    if (const auto number = python::ReadFloat(*text)) return *number;
  }
  return a[1] == nullptr ? Value(0.0) : *a[1];
}

// A level of indentation as json.dumps takes it: a number of blanks or a text.
std::string IndentOf(const Value& value) {
  if (const std::string* text = value.AsString()) return *text;
  const int64_t width = IntegerOf(value, "indent");
  if (width > static_cast<int64_t>(kMaxWork)) {
    Fail(ErrorKind::kUserInput, "indent is {}", width);
  }
  return std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
}

Value ToJsonText(Call& call) {
  const auto a = call.Bind(
      {"value", "ensure_ascii", "indent", "separators", "sort_keys"}, 1);
  JsonFormat format;
  format.ensure_ascii = Flag(a[1]);
  format.sort_keys = Flag(a[4]);
  const Extent extent = a[0]->extent();
  if (a[2] != nullptr && !a[2]->IsNone()) {
    format.indent = IndentOf(*a[2]);
    format.item_separator.assign(1, ',');
    const auto blanks =
        CheckedMul(extent.weight,
                   format.indent->size() * static_cast<uint64_t>(extent.depth));
    call.runtime().Spend(blanks.value_or(kMaxWork));
  }
  if (a[3] != nullptr && !a[3]->IsNone()) {
    const std::vector<Value> pair = ItemsOf(*a[3], call.runtime());
    if (pair.size() != 2) {
      Fail(ErrorKind::kUserInput, "{} separators, expected 2", pair.size());
    }
    format.item_separator = TextOf(pair[0], "a separator");
    format.key_separator = TextOf(pair[1], "a separator");
    const auto separators =
        CheckedMul(extent.weight,
                   format.item_separator.size() + format.key_separator.size());
    call.runtime().Spend(separators.value_or(kMaxWork));
  }
  call.runtime().Spend(extent.weight);
  // Sorting takes about as many steps for each byte.
  if (format.sort_keys) {
    call.runtime().Spend(CheckedMul(extent.weight, kStep).value_or(kMaxWork));
  }
  return call.Text(ToJson(*a[0], format));
}

constexpr NamedFunction kFilters[] = {
    {"abs", Absolute},
    {"attr", AttributeOnly},
    {"capitalize", Convert<python::Capitalize>},
    {"count", Length},
    {"d", Default},
    {"default", Default},
    {"first", First},
    {"float", Float},
    {"indent", Indent},
    {"int", Integer},
    {"items", Items},
    {"join", Join},
    {"last", Last},
    {"length", Length},
    {"list", ListOf},
    {"lower", Convert<python::Lower>},
    {"map", Map},
    {"reject", Select<false, false>},
    {"rejectattr", Select<true, false>},
    {"replace", Replace},
    {"reverse", Reverse},
    {"select", Select<false, true>},
    {"selectattr", Select<true, true>},
    {"string", Convert<Same>},
    {"tojson", ToJsonText},
    {"trim", Trim},
    {"upper", Convert<python::Upper>},
};

}  // namespace

bool IsIterator(const Value& value) {
  const Sequence* sequence = value.AsSequence();
  return sequence != nullptr && sequence->kind == Kind::kIterator;
}

std::vector<Value> Borrowed(Call& call, const Value& value) {
  std::vector<Value> items = ItemsOf(value, call.runtime());
  if (IsIterator(value)) value.AsSequence()->lent = true;
  return items;
}

NativeFunction FindFilter(std::string_view name) {
  NativeFunction filter = FindNamed(kFilters, name);
  if (filter == nullptr) filter = FindNamed(ListFilters(), name);
  if (filter == nullptr) filter = FindNamed(TextFilters(), name);
  if (filter == nullptr) {
    Fail(ErrorKind::kUnsupported, "the filter \"{}\" is not supported", name);
  }
  return filter;
}

}  // namespace mobe::jinja
