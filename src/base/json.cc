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
    Fail(ErrorKind::kCorruptFile, "{}: invalid JSON: {}", source, e.what());
  }
}

}  // namespace mobe
