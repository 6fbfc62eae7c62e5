#include "io/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"

namespace mobe {
namespace {

using ::testing::ElementsAre;

class ConfigTest : public ::testing::Test {
 protected:
  const Json json_ = ParseJson(R"({
    "one": 1, "zero": 0, "minus": -1, "half": 0.5, "whole": 16.0,
    "max": 2147483648, "over": 2147483649,
    "i64": 9223372036854775808, "u64": 18446744073709551615, "big": 1e30,
    "text": "sixteen", "null": null, "yes": true,
    "list": [1, 0, 3], "empty": [], "mixed": [1, "x"], "negative": [-1],
    "object": {"inner": "x"}
  })",
                               "m/config.json");
  const ConfigReader config_{json_, "m/config.json"};

  // Expects that `read` fails with exactly this message.
  template <class Read>
  void ExpectRejected(const std::string& message, const Read& read) {
    const auto error = ErrorOf(read);
    ASSERT_TRUE(error) << message;
    const bool missing = message.find(" is missing, ") != std::string::npos ||
                         message.find(" is null, ") != std::string::npos;
    EXPECT_EQ(error->kind(),
              missing ? ErrorKind::kMissing : ErrorKind::kCorruptFile);
    EXPECT_EQ(error->what(), "m/config.json: " + message);
  }
};

TEST_F(ConfigTest, Size) {
  EXPECT_EQ(config_.Size("one"), 1);
  EXPECT_EQ(config_.Size("max"), kMaxConfigSize);
  EXPECT_EQ(config_.Size("none", 7), 7);
  EXPECT_EQ(config_.Size("null", 7), 7);
  EXPECT_EQ(config_.Size("one", 7), 1);
  const std::string expected = ", expected an integer from 1 to 2,147,483,648";
  const std::pair<const char*, const char*> rejected[] = {
      {"none", "missing"},
      {"null", "null"},
      {"zero", "0"},
      {"minus", "-1"},
      {"over", "2147483649"},
      {"i64", "9223372036854775808"},
      {"u64", "18446744073709551615"},
      {"half", "0.5"},
      {"whole", "16.0"},
      {"big", "1e+30"},
      {"text", "\"sixteen\""},
      {"yes", "true"},
      {"list", "[1,0,3]"},
      {"object", "{\"inner\":\"x\"}"}};
  for (const auto& [key, value] : rejected) {
    const std::string message =
        fmt::format("\"{}\" is {}{}", key, value, expected);
    const char* const k = key;
    ExpectRejected(message, [&] { config_.Size(k); });
    if (config_.Has(k)) ExpectRejected(message, [&] { config_.Size(k, 7); });
  }
}

TEST_F(ConfigTest, Count) {
  EXPECT_EQ(config_.Count("zero", 7), 0);
  EXPECT_EQ(config_.Count("max", 7), kMaxConfigSize);
  EXPECT_EQ(config_.Count("none", 7), 7);
  ExpectRejected("\"minus\" is -1, expected an integer from 0 to 2,147,483,648",
                 [&] { config_.Count("minus", 7); });
}

TEST_F(ConfigTest, OtherTypes) {
  EXPECT_EQ(config_.Number("half", 7), 0.5);
  EXPECT_EQ(config_.Number("one", 7), 1.0);
  EXPECT_EQ(config_.Number("null", 7), 7.0);
  ExpectRejected("\"text\" is \"sixteen\", expected a number",
                 [&] { config_.Number("text", 7); });
  EXPECT_TRUE(config_.Bool("yes", false));
  EXPECT_TRUE(config_.Bool("none", true));
  ExpectRejected("\"one\" is 1, expected true or false",
                 [&] { config_.Bool("one", false); });
  EXPECT_EQ(config_.String("text", ""), "sixteen");
  EXPECT_EQ(config_.String("null", "x"), "x");
  ExpectRejected("\"one\" is 1, expected a string",
                 [&] { config_.String("one", ""); });
}

TEST_F(ConfigTest, Counts) {
  EXPECT_THAT(config_.Counts("list"), ElementsAre(1, 0, 3));
  EXPECT_THAT(config_.Counts("one"), ElementsAre(1));
  EXPECT_THAT(config_.Counts("empty"), ElementsAre());
  const std::string expected =
      ", expected an integer from 0 to 2,147,483,648, or a list of such";
  ExpectRejected("\"none\" is missing" + expected,
                 [&] { config_.Counts("none"); });
  ExpectRejected("\"mixed\" is [1,\"x\"]" + expected,
                 [&] { config_.Counts("mixed"); });
  ExpectRejected("\"negative\" is [-1]" + expected,
                 [&] { config_.Counts("negative"); });
}

TEST_F(ConfigTest, Objects) {
  EXPECT_TRUE(config_.Has("object"));
  EXPECT_FALSE(config_.Has("null"));
  EXPECT_FALSE(config_.Has("none"));
  const ConfigReader inner = config_.Object("object");
  EXPECT_EQ(inner.String("inner", ""), "x");
  ExpectRejected("object: \"inner\" is \"x\", expected a number",
                 [&] { inner.Number("inner", 0); });
  ExpectRejected("\"one\" is 1, expected an object",
                 [&] { config_.Object("one"); });
  ExpectRejected("\"none\" is missing, expected an object",
                 [&] { config_.Object("none"); });
}

TEST_F(ConfigTest, NumbersAreFinite) {
  EXPECT_THROW(ParseJson("{\"a\": 1e999}", "x"), Error);
  const Json json = ParseJson("{\"a\": Infinity, \"b\": NaN}", "x");
  const ConfigReader reader(json, "m/config.json");
  ExpectRejected("\"a\" is Infinity, expected a number",
                 [&] { reader.Number("a", 0); });
  ExpectRejected("\"b\" is NaN, expected a number",
                 [&] { reader.Number("b", 0); });
  ExpectRejected(
      "\"a\" is Infinity, expected an integer from 1 to "
      "2,147,483,648",
      [&] { reader.Size("a"); });
}

TEST_F(ConfigTest, OneOfSeveralNames) {
  EXPECT_STREQ(config_.OneOf({"none", "one"}), "one");
  EXPECT_STREQ(config_.OneOf({"none", "null"}), "none");
  const Json same = {{"a", 2}, {"b", 2}, {"c", 3}};
  const ConfigReader reader(same, "config.json");
  EXPECT_STREQ(reader.OneOf({"a", "b"}), "a");
  ExpectError(ErrorKind::kUnsupported,
              "config.json: \"a\" is 2, but \"c\" is 3: they are two names",
              [&] {
                reader.OneOf({"a", "b", "c"});
              });
}

TEST(ConfigReaderTest, RefusesWhatNobodyAskedFor) {
  const Json json = ParseJson(R"({
    "size": 1, "null": null, "off": false, "text": "", "list": [], "object": {},
    "aux_loss_alpha": 0.1, "unknown_zero": 0})",
                              "config.json");
  const ConfigReader reader(json, "config.json");
  const char* const harmless[] = {"*_loss_*", "unknown_*"};
  ExpectError(ErrorKind::kUnsupported,
              "config.json: mobe does not know the key \"size\", which is 1,",
              [&] { reader.RefuseOthers(harmless); });
  reader.Size("size");
  reader.RefuseOthers(harmless);
  ExpectError(ErrorKind::kUnsupported, "the key \"aux_loss_alpha\"",
              [&] { reader.RefuseOthers(); });
}

}  // namespace
}  // namespace mobe
