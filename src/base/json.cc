#include "base/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace mobe {
namespace {

constexpr size_t kMaxExcerpt = 160;  // bytes

// As Python writes it, and the double.
struct NonFinite {
  std::string_view text;
  double value;
};
constexpr NonFinite kNonFinite[] = {
    {"NaN", std::numeric_limits<double>::quiet_NaN()},
    {"Infinity", std::numeric_limits<double>::infinity()},
    {"-Infinity", -std::numeric_limits<double>::infinity()}};

const NonFinite* NonFiniteAt(std::string_view text) {
  for (const NonFinite& number : kNonFinite) {
    if (text.starts_with(number.text)) return &number;
  }
  return nullptr;
}

// Puts strings of QuoteNonFinite in the place of numbers that are not finite.
// Whether there was one.
bool QuoteNumbers(Json* value) {
  bool any = false;
  if (value->is_structured()) {
    for (Json& element : *value) any |= QuoteNumbers(&element);
  } else if (value->is_number_float()) {
    const auto number = value->get<double>();
    if (std::isfinite(number)) return false;
    any = true;
    *value = std::string(1, '\0') + (std::isnan(number) ? "NaN"
                                     : number > 0       ? "Infinity"
                                                        : "-Infinity");
  }
  return any;
}

std::string Dump(const Json& value, int indent, Json::error_handler_t errors) {
  Json quoted = value;
  if (!QuoteNumbers(&quoted)) return value.dump(indent, ' ', false, errors);
  std::string text = quoted.dump(indent, ' ', false, errors);
  for (const NonFinite& number : kNonFinite) {
    const std::string string = fmt::format("\"\\u0000{}\"", number.text);
    for (size_t at = 0; (at = text.find(string, at)) != std::string::npos;) {
      text.replace(at, string.size(), number.text);
    }
  }
  return text;
}

}  // namespace

std::optional<std::string> QuoteNonFinite(std::string_view text) {
  std::string quoted;
  size_t copied = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') in_string = !in_string;
    if (in_string && c == '\\') ++i;
    if (in_string || (c != 'N' && c != 'I' && c != '-')) continue;
    const NonFinite* number = NonFiniteAt(text.substr(i));
    if (number == nullptr) continue;
    quoted += text.substr(copied, i - copied);
    quoted += fmt::format("\"\\u0000{}\"", number->text);
    copied = i + number->text.size();
    i = copied - 1;
  }
  if (copied == 0) return std::nullopt;
  return quoted + std::string(text.substr(copied));
}

std::optional<double> NonFiniteFromQuoted(std::string_view text) {
  if (!text.starts_with('\0')) return std::nullopt;
  for (const NonFinite& number : kNonFinite) {
    if (text.substr(1) == number.text) return number.value;
  }
  return std::nullopt;
}

std::string DumpJson(const Json& value, int indent) {
  return Dump(value, indent, Json::error_handler_t::strict);
}

void CheckJsonDepth(std::string_view text, const std::string& source) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxJsonDepth) {
        Fail(ErrorKind::kCorruptFile,
             "{}: JSON nested deeper than {} levels at byte {}", source,
             kMaxJsonDepth, i);
      }
    } else if (c == '\0') {
      Fail(ErrorKind::kCorruptFile, "{}: invalid JSON: a NUL byte at byte {}",
           source, i);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
}

Json ParseJson(std::string_view text, const std::string& source) {
  CheckJsonDepth(text, source);
  const auto restore = [&](int, Json::parse_event_t event, Json& parsed) {
    if (!parsed.is_string()) return true;
    const auto number = NonFiniteFromQuoted(parsed.get_ref<std::string&>());
    if (!number) return true;
    if (event == Json::parse_event_t::key) {
      Fail(ErrorKind::kCorruptFile,
           "{}: invalid JSON: {} is no name of a value", source, *number);
    }
    parsed = *number;
    return true;
  };
  try {
    if (const auto quoted = QuoteNonFinite(text)) {
      return Json::parse(*quoted, restore);
    }
    return Json::parse(text.begin(), text.end());
  } catch (const Json::exception& e) {
    Fail(ErrorKind::kCorruptFile, "{}: invalid JSON: {}", source,
         ParserMessage(e));
  }
}

std::string ParserMessage(const Json::exception& error) {
  // "[json.exception.parse_error.101] parse error at line 1, ...". The text
  // goes on to quote the input, raw and whole: hence the cut and Excerpt.
  std::string_view text = error.what();
  text.remove_prefix(std::min(text.find(']') + 2, text.size()));
  return Excerpt(text.substr(0, kMaxExcerpt));
}

std::string Excerpt(const Json& value) {
  std::string text = Dump(value, -1, Json::error_handler_t::replace);
  if (text.size() > kMaxExcerpt) {
    size_t end = kMaxExcerpt;
    while ((text[end] & 0xc0) == 0x80) --end;  // not within a character
    text.resize(end);
    text += "...";
  }
  return text;
}

std::vector<JsonDifference> Differences(const Json& before, const Json& after) {
  Json keys = before;
  keys.update(after);
  std::vector<JsonDifference> differences;
  for (const auto& [key, unused] : keys.items()) {
    JsonDifference d{key, before.value(key, Json()), after.value(key, Json())};
    // By their texts: NaN is as it was.
    if (DumpJson(d.before) != DumpJson(d.after)) {
      differences.push_back(std::move(d));
    }
  }
  return differences;
}

}  // namespace mobe
