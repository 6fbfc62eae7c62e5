#include "base/json.h"

#include "base/error.h"

namespace mobe {

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
  // goes on to quote the input, raw and whole; hence Excerpt.
  const std::string_view text = error.what();
  const size_t tag = text.find("] ");
  return Excerpt(tag == text.npos ? text : text.substr(tag + 2));
}

std::string Excerpt(const Json& value) {
  constexpr size_t kMaxBytes = 160;
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kMaxBytes) {
    size_t end = kMaxBytes;
    while ((text[end] & 0xc0) == 0x80) --end;  // not within a character
    text.resize(end);
    text += "...";
  }
  return text;
}

}  // namespace mobe
