#include "base/ordered_json.h"

#include <vector>

#include "base/error.h"

namespace mobe {

OrderedJson ParseOrderedJson(std::string_view text, const std::string& source) {
  CheckJsonDepth(text, source);
  // It looks for each key among those before.
  constexpr int64_t kMaxKeys = 10'000;
  std::vector<int64_t> keys;  // of each open object
  const auto visit = [&](int, OrderedJson::parse_event_t event,
                         OrderedJson& parsed) {
    if (event == OrderedJson::parse_event_t::object_start) keys.push_back(0);
    if (event == OrderedJson::parse_event_t::object_end) keys.pop_back();
    if (event == OrderedJson::parse_event_t::key && ++keys.back() > kMaxKeys) {
      Fail(ErrorKind::kUnsupported,
           "{}: an object of more than {} keys is not supported", source,
           kMaxKeys);
    }
    if (event == OrderedJson::parse_event_t::value && parsed.is_string()) {
      const auto number = NonFiniteFromQuoted(parsed.get_ref<std::string&>());
      if (number) parsed = *number;
    }
    return true;
  };
  try {
    const auto quoted = QuoteNonFinite(text);
    return OrderedJson::parse(quoted ? *quoted : std::string(text), visit);
  } catch (const OrderedJson::exception& e) {
    Fail(ErrorKind::kCorruptFile, "{}: invalid JSON: {}", source,
         ParserMessage(e));
  }
}

}  // namespace mobe
