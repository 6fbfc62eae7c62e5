#include "base/json.h"

#include <algorithm>

#include "base/error.h"

namespace mobe {
namespace {

constexpr size_t kMaxExcerpt = 160;  // bytes

}  // namespace

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
  try {
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
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
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
    if (d.before != d.after) differences.push_back(std::move(d));
  }
  return differences;
}

}  // namespace mobe
