// Filters of texts and numbers beyond the usual ones.
#include <cmath>
#include <cstdlib>

#include "base/checked.h"
#include "base/error.h"
#include "base/unicode.h"
#include "jinja/arithmetic.h"
#include "jinja/filters.h"
#include "jinja/format.h"
#include "jinja/python_text.h"

namespace mobe::jinja {
namespace {

// Words begin behind white space and some signs, other than str.title's.
Value TitleOfWords(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  const std::string text = PrintedOf(*a[0], call.runtime());
  call.runtime().Spend(CheckedMul(text.size(), kStep).value_or(kMaxWork));
  std::string out;
  std::string word;
  const auto end_word = [&] {
    if (word.empty()) return;
    const size_t first = FirstCharacter(word).size;
    out += python::Upper(word.substr(0, first));
    out += python::Lower(word.substr(first));
    word.clear();
  };
  for (const char32_t c : python::Decode(text)) {
    const bool between =
        python::IsSpace(c) ||
        std::u32string_view(U"-({[<").find(c) != std::u32string_view::npos;
    if (between) end_word();
    AppendUtf8(c, between ? out : word);
  }
  end_word();
  return out;
}

Value Center(Call& call) {
  const auto a = call.Bind({"value", "width"}, 1);
  const int64_t width = a[1] == nullptr ? 80 : IntegerOf(*a[1], "width");
  call.runtime().Spend(static_cast<uint64_t>(std::max<int64_t>(width, 0)));
  std::string text = python::Justify(PrintedOf(*a[0], call.runtime()), width,
                                     " ", python::Side::kMiddle);
  if (a[0]->IsMarkup()) return Value::MakeMarkup(std::move(text));
  return text;
}

// Runs of what \w stands for.
Value WordCount(Call& call) {
  const auto a = call.Bind({"s"}, 1);
  int64_t count = 0;
  bool in_word = false;
  for (const char32_t c : python::Decode(PrintedOf(*a[0], call.runtime()))) {
    const bool is_word = c == '_' || python::IsAlnum(c);
    if (is_word && !in_word) ++count;
    in_word = is_word;
  }
  return count;
}

Value Truncate(Call& call) {
  const auto a = call.Bind({"s", "length", "killwords", "end", "leeway"}, 1);
  const std::string& text = TextOf(*a[0], "what truncate is of");
  const int64_t length = a[1] == nullptr ? 255 : IntegerOf(*a[1], "length");
  const std::string end = a[3] == nullptr ? "..." : TextOf(*a[3], "end");
  const int64_t leeway = Given(a[4]) ? IntegerOf(*a[4], "leeway") : 5;
  const int64_t kept = length - python::Length(end);
  if (kept < 0 || leeway < 0) {
    Fail(ErrorKind::kUserInput, "truncate to {} characters, with {} behind",
         length, Excerpt(Json(end)));
  }
  call.runtime().Spend(text.size() * 4);
  const std::u32string all = python::Decode(text);
  if (static_cast<int64_t>(all.size()) - leeway <= length) return *a[0];
  if (a[0]->IsMarkup()) {
    Fail(ErrorKind::kUnsupported, "truncate of {}", a[0]->TypeName());
  }
  std::u32string begin = all.substr(0, static_cast<size_t>(kept));
  const size_t blank = begin.rfind(U' ');
  if (!Flag(a[2]) && blank != std::u32string::npos) begin.resize(blank);
  return python::Encode(begin) + end;
}

// "%s, %d" | format(a, b), or | format(name=a).
Value Format(Call& call) {
  const auto& [positional, named] = call.arguments();
  if (positional.empty()) Fail(ErrorKind::kUserInput, "format of nothing");
  if (positional.size() > 1 && !named.empty()) {
    Fail(ErrorKind::kUserInput, "format with and without names");
  }
  if (positional[0].IsMarkup()) {
    Fail(ErrorKind::kUnsupported, "format of {}", positional[0].TypeName());
  }
  const std::string format = PrintedOf(positional[0], call.runtime());
  MappingItems items;
  for (const auto& [name, value] : named) items.emplace_back(name, value);
  const Value values =
      named.empty()
          ? call.List({positional.begin() + 1, positional.end()}, Kind::kTuple)
          : Value::MakeMapping(std::move(items));
  return FormatPercent(format, values, call.runtime());
}

template <bool again>
Value Escape(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  if (a[0]->IsMarkup() && !again) return *a[0];
  const std::string text = PrintedOf(*a[0], call.runtime());
  call.runtime().Spend(CheckedMul(text.size(), uint64_t{5}).value_or(kMaxWork));
  return Value::MakeMarkup(python::EscapeHtml(text));
}

Value Safe(Call& call) {
  const auto a = call.Bind({"value"}, 1);
  return Value::MakeMarkup(PrintedOf(*a[0], call.runtime()));
}

// round(value, digits): half to even, of the exact value.
Value Rounded(const Value& value, int64_t digits, Runtime& runtime) {
  if (value.AsLong() != nullptr) {
    if (digits >= 0) return value;
  } else if (const auto integer = value.AsInteger()) {
    if (digits >= 0) return *integer;
  } else if (const double* number = value.AsFloat()) {
    if (digits > 323 || !std::isfinite(*number)) return *number;
    if (digits >= 0) {
      runtime.Spend(1000);
      const std::string text = fmt::format("{:.{}f}", *number, digits);
      return std::strtod(text.c_str(), nullptr);
    }
  } else {
    Fail(ErrorKind::kUserInput, "round of {}, expected a number",
         value.TypeName());
  }
  Fail(ErrorKind::kUnsupported, "round to {} digits", digits);
}

Value Round(Call& call) {
  const auto a = call.Bind({"value", "precision", "method"}, 1);
  const std::string method =
      a[2] == nullptr ? "common" : TextOf(*a[2], "method");
  const int64_t digits = a[1] == nullptr ? 0 : IntegerOf(*a[1], "precision");
  if (method == "common") return Rounded(*a[0], digits, call.runtime());
  if (method != "ceil" && method != "floor") {
    Fail(ErrorKind::kUserInput,
         "round's method {}, expected common, ceil or floor",
         Excerpt(Json(method)));
  }
  const Value scale = Arithmetic("**", int64_t{10}, digits, call.runtime());
  Value scaled = Arithmetic("*", *a[0], scale, call.runtime());
  if (const double* number = scaled.AsFloat()) {
    const double whole =
        method == "ceil" ? std::ceil(*number) : std::floor(*number);
    if (!(std::fabs(whole) < 9.2e18)) {
      Fail(ErrorKind::kUserInput, "round is beyond 64 bits");
    }
    scaled = static_cast<int64_t>(whole);
  }
  return Arithmetic("/", scaled, scale, call.runtime());
}

constexpr NamedFunction kTextFilters[] = {
    {"center", Center},
    {"e", Escape<false>},
    {"escape", Escape<false>},
    {"forceescape", Escape<true>},
    {"format", Format},
    {"round", Round},
    {"safe", Safe},
    {"title", TitleOfWords},
    {"truncate", Truncate},
    {"wordcount", WordCount},
};

}  // namespace

std::span<const NamedFunction> TextFilters() { return kTextFilters; }

}  // namespace mobe::jinja
