#include "base/json.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace mobe {
namespace {

TEST(JsonTest, RefusesWhatIsNotStrictJson) {
  for (const char* text :
       {"", "{", "{\"a\":1,}", "[1] x", "{\"a\":NaN}", "\"\xff\"", "{'a':1}"}) {
    EXPECT_THROW(ParseJson(text, "x.json"), Error) << text;
  }
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
