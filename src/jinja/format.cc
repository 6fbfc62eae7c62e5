#include "jinja/format.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/unicode.h"
#include "jinja/format_spec.h"
#include "jinja/python_text.h"

namespace mobe::jinja {
namespace {

[[noreturn]] void FailAtType(char type, const Value& value) {
  Fail(ErrorKind::kUserInput, "the format {} of {}", type, value.TypeName());
}

std::string Printed(const Value& value, bool repr, Runtime& runtime) {
  runtime.Spend(value.extent().weight);
  return repr ? Repr(value) : ToString(value);
}

// Reads a text from its begin to its end.
class FormatReader {
 public:
  explicit FormatReader(std::string_view text) : rest_(text) {}

  bool AtEnd() const { return rest_.empty(); }
  char Peek() const { return rest_.empty() ? '\0' : rest_.front(); }
  char Take() {
    if (rest_.empty()) Fail(ErrorKind::kUserInput, "a format breaks off");
    const char c = rest_.front();
    rest_.remove_prefix(1);
    return c;
  }
  bool TakeIf(char c) {
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  // Up to one of `ends`, which is left.
  std::string_view TakeUntil(std::string_view ends) {
    const size_t size = std::min(rest_.find_first_of(ends), rest_.size());
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  std::optional<int64_t> TakeNumber() {
    int64_t number = 0;
    if (!OneOf("0123456789", Peek())) return std::nullopt;
    const auto parsed =
        std::from_chars(rest_.data(), rest_.data() + rest_.size(), number);
    if (parsed.ec != std::errc()) {
      Fail(ErrorKind::kUserInput, "a number of a format is too large");
    }
    rest_.remove_prefix(static_cast<size_t>(parsed.ptr - rest_.data()));
    return number;
  }
  std::string_view rest() const { return rest_; }
  void Skip(size_t size) { rest_.remove_prefix(size); }

 private:
  std::string_view rest_;
};

// --- format % values

class PercentFormatter {
 public:
  PercentFormatter(const Value& values, Runtime* runtime)
      : values_(values), runtime_(runtime) {
    const Sequence* sequence = values.AsSequence();
    if (sequence != nullptr && sequence->kind == Kind::kTuple) {
      tuple_ = &sequence->items;
    } else {
      // What has items may be left over.
      may_stay_ = values.AsMapping() != nullptr || sequence != nullptr;
    }
  }

  std::string Run(std::string_view format) {
    FormatReader reader(format);
    std::string out;
    while (!reader.AtEnd()) {
      out += reader.TakeUntil("%");
      if (reader.AtEnd()) break;
      reader.Take();
      runtime_->Spend(kTextStep);
      out += Field(&reader);
      runtime_->Spend(out.size() - std::min(counted_, out.size()));
      counted_ = out.size();
    }
    const size_t all = tuple_ != nullptr ? tuple_->size() : 1;
    if (used_ < all && !(tuple_ == nullptr && may_stay_)) {
      Fail(ErrorKind::kUserInput, "% has more values than its format takes");
    }
    return out;
  }

 private:
  const Value& Next() {
    const size_t all = tuple_ != nullptr ? tuple_->size() : 1;
    if (used_ == all) {
      Fail(ErrorKind::kUserInput, "% has fewer values than its format takes");
    }
    return tuple_ != nullptr ? (*tuple_)[used_++] : (++used_, values_);
  }

  std::string Field(FormatReader* reader) {
    std::optional<Value> named;
    if (reader->TakeIf('(')) {
      const std::string key(reader->TakeUntil(")"));
      reader->Take();
      if (values_.AsMapping() == nullptr) {
        Fail(ErrorKind::kUserInput, "%({}) of {}, expected a dict", key,
             values_.TypeName());
      }
      named = ItemOf(values_, key, *runtime_);
      if (named->IsUndefined()) {
        Fail(ErrorKind::kUserInput, "%: {}", named->TypeName());
      }
    }
    Spec spec;
    bool left = false, zeros = false;
    for (; OneOf("-+ #0", reader->Peek()); reader->Take()) {
      const char flag = reader->Peek();
      left |= flag == '-';
      zeros |= flag == '0';
      if (flag == '#') spec.alternate = true;
      if (flag == '+' || (flag == ' ' && spec.sign != '+')) spec.sign = flag;
    }
    spec.width = Number(reader).value_or(0);
    if (spec.width < 0) left = true, spec.width = -spec.width;
    if (reader->TakeIf('.')) {
      spec.precision = std::max<int64_t>(Number(reader).value_or(0), 0);
    }
    while (OneOf("hlL", reader->Peek())) reader->Take();
    spec.type = reader->Take();
    if (spec.type == '%') return "%";
    const Value value = named ? *named : Next();
    spec.align = left ? '<' : '>';
    if (zeros && !left && !OneOf("sr", spec.type)) {
      spec.align = '=';
      spec.fill = "0";
    }
    return Write(value, spec);
  }

  // Digits or *.
  std::optional<int64_t> Number(FormatReader* reader) {
    if (!reader->TakeIf('*')) return reader->TakeNumber();
    const int64_t number = IntegerOf(Next(), "the * of a format");
    if (number < -kMaxPrecision || number > kMaxPrecision) {
      Fail(ErrorKind::kUnsupported, "a format's width of {}", number);
    }
    return number;
  }

  std::string Write(const Value& value, Spec spec) {
    switch (spec.type) {
      case 's':
      case 'r':
        return WriteText(Printed(value, spec.type == 'r', *runtime_), spec,
                         *runtime_);
      case 'd':
      case 'i':
      case 'u':
      case 'o':
      case 'x':
      case 'X':
        return WriteInteger(value, spec);
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G': {
        const auto number = value.AsNumber();
        if (!number) FailAtType(spec.type, value);
        return WriteNumber(FloatDigits(*number, spec, *runtime_), spec,
                           *runtime_);
      }
      case 'c': {
        const std::string* text = value.AsString();
        if (text != nullptr && python::Length(*text) != 1) {
          Fail(ErrorKind::kUserInput, "%c of a str that is no character");
        }
        spec.precision.reset();
        return WriteText(text != nullptr ? *text : CharacterOf(value), spec,
                         *runtime_);
      }
      default:
        Fail(OneOf("a", spec.type) ? ErrorKind::kUnsupported
                                   : ErrorKind::kUserInput,
             "the format %{}", spec.type);
    }
  }

  std::string WriteInteger(const Value& value, Spec spec) {
    std::optional<std::string> decimal = DecimalOf(value);
    const double* number = value.AsFloat();
    if (!decimal && number != nullptr && OneOf("diu", spec.type) &&
        std::fabs(*number) < 9.2e18) {
      decimal = std::to_string(static_cast<int64_t>(*number));
    }
    if (!decimal) FailAtType(spec.type, value);
    Digits number_digits = IntegerDigits(*decimal, spec);
    if (spec.precision) {
      const auto wanted = static_cast<uint64_t>(*spec.precision);
      const size_t has = number_digits.digits.size();
      if (wanted > has) {
        runtime_->Spend(wanted);
        number_digits.digits.insert(0, wanted - has, '0');
      }
    }
    return WriteNumber(std::move(number_digits), spec, *runtime_);
  }

  const Value& values_;
  Runtime* runtime_;
  const std::vector<Value>* tuple_ = nullptr;
  bool may_stay_ = false;
  size_t used_ = 0;
  size_t counted_ = 0;  // bytes of the result
};

// --- format.format(...)

class BraceFormatter {
 public:
  BraceFormatter(const Arguments& arguments, Runtime* runtime)
      : arguments_(arguments), runtime_(runtime) {}

  std::string Run(std::string_view format) { return Run(format, 2); }

 private:
  std::string Run(std::string_view format, int levels) {
    if (levels == 0) {
      Fail(ErrorKind::kUserInput, "fields of a format are nested too deep");
    }
    FormatReader reader(format);
    std::string out;
    while (!reader.AtEnd()) {
      out += reader.TakeUntil("{}");
      if (reader.AtEnd()) break;
      const char brace = reader.Take();
      runtime_->Spend(kTextStep);
      if (reader.TakeIf(brace)) {
        out += brace;
      } else if (brace == '}') {
        Fail(ErrorKind::kUserInput, "a single }} in a format");
      } else {
        const std::string text = Field(&reader, levels);
        runtime_->Spend(text.size());
        out += text;
      }
    }
    return out;
  }

  // Behind its "{", to its "}".
  std::string Field(FormatReader* reader, int levels) {
    const std::string_view name = FieldName(reader);
    bool repr = false;
    Value value;
    std::string spec;
    char conversion = '\0';
    if (reader->TakeIf('!')) {
      conversion = reader->Take();
      if (!OneOf("sra", conversion)) {
        Fail(ErrorKind::kUserInput, "the conversion !{} of a format",
             conversion);
      }
    }
    value = Named(name);
    if (reader->TakeIf(':')) spec = Run(SpecText(reader), levels - 1);
    if (!reader->TakeIf('}')) {
      Fail(ErrorKind::kUserInput, "a format's field has no end, expected }}");
    }
    if (conversion == 'a') Fail(ErrorKind::kUnsupported, "the conversion !a");
    repr = conversion == 'r';
    if (conversion != '\0') value = Printed(value, repr, *runtime_);
    return Write(value, spec);
  }

  // Brackets may hold anything but their end.
  static std::string_view FieldName(FormatReader* reader) {
    const std::string_view rest = reader->rest();
    size_t size = 0;
    bool bracket = false;
    for (; size < rest.size(); ++size) {
      const char c = rest[size];
      if (c == '[') bracket = true;
      if (c == ']') bracket = false;
      if (c == '{') {
        Fail(ErrorKind::kUserInput, "unexpected {{ in a format's field");
      }
      if (!bracket && OneOf("!:}", c)) break;
    }
    reader->Skip(size);
    return rest.substr(0, size);
  }

  // To the field's end; fields in it are whole.
  static std::string_view SpecText(FormatReader* reader) {
    const std::string_view rest = reader->rest();
    size_t size = 0;
    int open = 0;
    for (; size < rest.size(); ++size) {
      if (rest[size] == '{') ++open;
      if (rest[size] == '}' && open-- == 0) break;
    }
    reader->Skip(size);
    return rest.substr(0, size);
  }

  Value Named(std::string_view name) {
    FormatReader reader(name);
    // Not "{.x}" either: Pythons differ.
    if (OneOf(".[", reader.Peek())) FailAtName(name);
    Value value = Argument(reader.TakeUntil(".["));
    while (!reader.AtEnd()) {
      runtime_->Spend(kTextStep);
      if (reader.Take() == '.') {
        const std::string attribute(reader.TakeUntil(".["));
        if (attribute.empty()) FailAtName(name);
        value = AttributeOf(value, attribute, *runtime_);
      } else {
        const std::string key(reader.TakeUntil("]"));
        if (key.empty() || !reader.TakeIf(']') ||
            !(reader.AtEnd() || OneOf(".[", reader.Peek()))) {
          FailAtName(name);
        }
        value = ItemOf(value, Key(key), *runtime_);
      }
    }
    return value;
  }

  [[noreturn]] static void FailAtName(std::string_view name) {
    Fail(ErrorKind::kUserInput, "a format's field {}",
         Excerpt(Json(std::string(name))));
  }

  // A number, when there are digits only.
  static Value Key(const std::string& key) {
    if (key.find_first_not_of("0123456789") != std::string::npos) return key;
    const auto number = FormatReader(key).TakeNumber();
    return number ? Value(*number) : Value(key);
  }

  Value Argument(std::string_view name) {
    const bool numbered =
        name.find_first_not_of("0123456789") == std::string_view::npos;
    if (!numbered) {
      const Value* value = runtime_->Find(arguments_.named, name);
      if (value != nullptr) return *value;
      Fail(ErrorKind::kUserInput, "format has no argument {}",
           Excerpt(Json(std::string(name))));
    }
    const bool counts = name.empty();
    if (counts_ && *counts_ != counts) {
      Fail(ErrorKind::kUserInput,
           "a format has fields with and without a number");
    }
    counts_ = counts;
    const auto i = static_cast<uint64_t>(
        counts ? next_++ : *FormatReader(name).TakeNumber());
    if (i >= arguments_.positional.size()) {
      Fail(ErrorKind::kUserInput,
           "format has {} arguments, but a field for "
           "another one",
           arguments_.positional.size());
    }
    return arguments_.positional[i];
  }

  std::string Write(const Value& value, const std::string& format) {
    if (format.empty()) return Printed(value, false, *runtime_);
    const Spec spec = Parse(format);
    if (const std::string* text = value.AsString()) {
      const bool fits = OneOf("s", spec.type) || spec.type == '\0';
      if (!fits || spec.align == '=' || spec.sign != '-' || spec.alternate ||
          spec.grouping != '\0') {
        FailAtFormat(format, value);
      }
      return WriteText(*text, spec, *runtime_);
    }
    const std::optional<std::string> decimal = DecimalOf(value);
    const auto number = value.AsNumber();
    if (decimal && (spec.type == '\0' || OneOf("bdoxXc", spec.type))) {
      return WriteInteger(value, *decimal, spec, format);
    }
    if (number && (spec.type == '\0' || OneOf("eEfFgG%", spec.type))) {
      return WriteNumber(FloatDigits(*number, spec, *runtime_), spec,
                         *runtime_);
    }
    FailAtFormat(format, value);
  }

  std::string WriteInteger(const Value& value, const std::string& decimal,
                           Spec spec, const std::string& format) {
    const bool other_base = OneOf("boxX", spec.type);
    if (spec.precision || (spec.grouping == ',' && other_base)) {
      FailAtFormat(format, value);
    }
    if (spec.type != 'c') {
      return WriteNumber(IntegerDigits(decimal, spec), spec, *runtime_);
    }
    if (spec.sign != '-' || spec.alternate || spec.grouping != '\0') {
      FailAtFormat(format, value);
    }
    if (spec.align == '\0') spec.align = '>';
    return WriteText(CharacterOf(value), spec, *runtime_);
  }

  [[noreturn]] static void FailAtFormat(const std::string& format,
                                        const Value& value) {
    Fail(OneOf("n", format.back()) ? ErrorKind::kUnsupported
                                   : ErrorKind::kUserInput,
         "the format {} of {}", Excerpt(Json(format)), value.TypeName());
  }

  // [[fill]align][sign][z][#][0][width][grouping][.precision][type]
  static Spec Parse(const std::string& format) {
    Spec spec;
    FormatReader reader(format);
    const size_t first = FirstCharacter(format).size;
    const bool filled = first < format.size() && OneOf("<>=^", format[first]);
    if (filled) {
      spec.fill = format.substr(0, first);
      reader.Skip(first);
      spec.align = reader.Take();
    } else if (OneOf("<>=^", reader.Peek())) {
      spec.align = reader.Take();
    }
    if (OneOf("+- ", reader.Peek())) spec.sign = reader.Take();
    spec.alternate = reader.TakeIf('#');
    // Behind a fill of its own it is a digit of the width.
    if (!filled && reader.TakeIf('0')) {
      spec.zeros = spec.align == '\0';
      spec.fill = "0";
    }
    spec.width = reader.TakeNumber().value_or(0);
    if (OneOf(",_", reader.Peek())) spec.grouping = reader.Take();
    if (reader.TakeIf('.')) {
      spec.precision = reader.TakeNumber();
      if (!spec.precision) {
        Fail(ErrorKind::kUserInput, "a format's precision is missing");
      }
    }
    if (!reader.AtEnd()) spec.type = reader.Take();
    if (!reader.AtEnd()) {
      Fail(ErrorKind::kUserInput, "the format {}", Excerpt(Json(format)));
    }
    return spec;
  }

  const Arguments& arguments_;
  Runtime* runtime_;
  std::optional<bool> counts_;  // whether fields have no numbers
  int64_t next_ = 0;
};

}  // namespace

std::string FormatPercent(const std::string& format, const Value& values,
                          Runtime& runtime) {
  runtime.Spend(format.size());
  return PercentFormatter(values, &runtime).Run(format);
}

std::string FormatBraces(const std::string& format, const Arguments& arguments,
                         Runtime& runtime) {
  runtime.Spend(format.size());
  return BraceFormatter(arguments, &runtime).Run(format);
}

}  // namespace mobe::jinja
