// JSON from files that nobody vouches for.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mobe {

using Json = nlohmann::json;

// Nesting beyond this is refused before the parser sees it. Real model files
// stay below 10.
inline constexpr int kMaxJsonDepth = 64;

// Parses strict JSON in UTF-8, but that a number may also be what Python's json
// module writes for one that is not finite: NaN, Infinity, -Infinity. A
// byte-order mark is passed over. `source` names the file in errors
// (kCorruptFile).
Json ParseJson(std::string_view text, const std::string& source);

// The text that ParseJson and Python read as the same value; nlohmann writes
// null for a number that is not finite. Indented, if not on one line (-1).
std::string DumpJson(const Json& value, int indent = -1);

// What ParseJson does about those numbers, for parsers of other types: they
// become strings that begin with a NUL, which NonFiniteFromQuoted reads.
// Nothing when there is none.
std::optional<std::string> QuoteNonFinite(std::string_view text);
std::optional<double> NonFiniteFromQuoted(std::string_view text);

// Fails when brackets nest deeper than kMaxJsonDepth, and at a NUL byte outside
// strings, which nlohmann's parser takes for the end of the text. For users of
// SAX parsers.
void CheckJsonDepth(std::string_view text, const std::string& source);

// What the parser has to say, quoted, on one line of bounded length.
std::string ParserMessage(const Json::exception& error);

// `value` as JSON on one line, cut when it is long: for messages.
std::string Excerpt(const Json& value);

// One key in which two objects differ; the value is null where it is missing.
struct JsonDifference {
  std::string key;
  Json before;
  Json after;
};
std::vector<JsonDifference> Differences(const Json& before, const Json& after);

}  // namespace mobe
