#include "cli/closest.h"

#include <gtest/gtest.h>

namespace mobe {
namespace {

TEST(Closest, OfMistypedWords) {
  const std::vector<std::string> words = {"compress", "compare", "quantize",
                                          "chat"};
  for (const auto& [typed, meant] :
       std::vector<std::pair<const char*, const char*>>{
           {"compres", "compress"},
           {"cmopress", "compress"},
           {"comapre", "compare"},
           {"quantise", "quantize"},
           {"quant", "quantize"},
           {"caht", "chat"},
           {"chats", "chat"},
           {"cat", "chat"},
           {"x", ""},
           {"", ""},
           {"frobnicate", ""},
           {"models/mini", ""}}) {
    EXPECT_EQ(ClosestTo(typed, words), meant) << typed;
  }
  EXPECT_EQ(DidYouMean("caht", words), "; did you mean chat?");
  EXPECT_EQ(DidYouMean(std::string(10000, 'c'), words), "");
}

}  // namespace
}  // namespace mobe
