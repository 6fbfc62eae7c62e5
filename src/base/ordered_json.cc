#include "base/ordered_json.h"

#include "base/error.h"

namespace mobe {

OrderedJson ParseOrderedJson(std::string_view text, const std::string& source) {
  CheckJsonDepth(text, source);
  try {
    return OrderedJson::parse(text.begin(), text.end());
  } catch (const OrderedJson::exception& e) {
    Fail(ErrorKind::kCorruptFile, "{}: invalid JSON: {}", source,
         ParserMessage(e));
  }
}

}  // namespace mobe
