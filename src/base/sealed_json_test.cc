#include "base/sealed_json.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace mobe {
namespace {

bool IsSound(const std::string& text) {
  try {
    ParseSealed(text, "x.json");
    return true;
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kCorruptFile);
    EXPECT_NE(std::string(e.what()).find("x.json: damaged"), std::string::npos);
    return false;
  }
}

TEST(SealedJsonTest, GivesBackWhatWasSealed) {
  for (const Json& json :
       {Json::object(), Json({{"a", {1, 2}}, {"b", {{"c", "}\n"}}}}),
        Json({{"sha256", "abc"}, {"x", 1.5}})}) {
    for (const int indent : {-1, 1}) {
      const std::string text = SealText(json.dump(indent));
      EXPECT_TRUE(Json::accept(text)) << text;
      EXPECT_EQ(ParseSealed(text, ""), json);
    }
  }
}

TEST(SealedJsonTest, EveryBitCounts) {
  const std::string text = SealText(Json({{"a", {1, 2}}, {"b", "c"}}).dump(1));
  for (size_t bit = 0; bit < 8 * text.size(); ++bit) {
    std::string flipped = text;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(IsSound(flipped)) << "bit " << bit;
  }
  for (size_t size = 0; size < text.size(); ++size) {
    EXPECT_FALSE(IsSound(text.substr(0, size)));
  }
  EXPECT_FALSE(IsSound(text + "\n"));
  EXPECT_FALSE(IsSound("{}"));
}

}  // namespace
}  // namespace mobe
