#include "base/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/ordered_json.h"

namespace mobe {
namespace {

TEST(JsonTest, RefusesWhatIsNotStrictJson) {
  for (const char* text :
       {"", "{", "{\"a\":1,}", "[1] x", "{\"a\":nan}", "\"\xff\"", "{'a':1}"}) {
    EXPECT_THROW(ParseJson(text, "x.json"), Error) << text;
  }
}

// As Python's json.dump writes them, and json.load reads them.
TEST(JsonTest, NumbersThatAreNotFinite) {
  const std::string text =
      R"({"a":[NaN,1.5,-Infinity],"b":Infinity,"s":"\"NaN, Infinity"})";
  const Json json = ParseJson(text, "x.json");
  EXPECT_TRUE(std::isnan(json["a"][0].get<double>()));
  EXPECT_EQ(json["a"][2], -std::numeric_limits<double>::infinity());
  EXPECT_EQ(json["b"], std::numeric_limits<double>::infinity());
  EXPECT_EQ(json["s"], "\"NaN, Infinity");
  EXPECT_EQ(DumpJson(json), text);
  EXPECT_EQ(Excerpt(json["a"]), "[NaN,1.5,-Infinity]");
  EXPECT_TRUE(Differences(json, json).empty());
  EXPECT_EQ(ParseOrderedJson("[-Infinity]", "x.json")[0].get<double>(),
            -std::numeric_limits<double>::infinity());
  for (const char* bad : {"{NaN:1}", "[-NaN]", "[Inf]", "[1NaN]", "[NaN 1]"}) {
    EXPECT_THROW(ParseJson(bad, "x.json"), Error) << bad;
  }
}

TEST(JsonTest, ByteOrderMark) {
  EXPECT_EQ(ParseJson("\xef\xbb\xbf{\"a\": 1}", "x.json").at("a"), 1);
}

TEST(JsonTest, NulByteIsNotTheEnd) {
  using namespace std::string_view_literals;
  EXPECT_THROW(ParseJson("{}\0"sv, "x.json"), Error);
  EXPECT_THROW(ParseJson("{}\0{"sv, "x.json"), Error);
  EXPECT_THROW(ParseJson("{\"a\0\":1}"sv, "x.json"), Error);
}

// Whatever the file holds, a message is one line of valid UTF-8.
TEST(JsonTest, MessagesAreShortAndPrintable) {
  for (const std::string& text :
       {"{\"" + std::string(100'000, 'x') + "\xff", std::string("{\"\x1b\n")}) {
    try {
      ParseJson(text, "x.json");
      FAIL() << text;
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_LT(message.size(), 300u);
      EXPECT_NE(message.find("x.json: invalid JSON"), message.npos);
      for (const char c : message) EXPECT_GE(static_cast<uint8_t>(c), 0x20u);
    }
  }
  EXPECT_EQ(Excerpt("a\nb"), "\"a\\nb\"");
  EXPECT_EQ(Excerpt(Json{{"a", {1, nullptr}}}), "{\"a\":[1,null]}");
  // Cut before a character that would not fit whole: 1 + 79 * 2 = 159 bytes.
  std::string umlauts;
  for (int i = 0; i < 200; ++i) umlauts += "\u00fc";
  EXPECT_EQ(Excerpt(umlauts), "\"" + umlauts.substr(0, 158) + "...");
}

TEST(JsonTest, DepthIsBounded) {
  const std::string ok(kMaxJsonDepth, '[');
  EXPECT_NO_THROW(ParseJson(ok + std::string(kMaxJsonDepth, ']'), "x.json"));
  const std::string deep(1'000'000, '[');
  EXPECT_THROW(ParseJson(deep, "x.json"), Error);
  // Brackets in strings are text.
  EXPECT_NO_THROW(ParseJson("\"\\\"" + deep + "\"", "x.json"));
}

}  // namespace
}  // namespace mobe
