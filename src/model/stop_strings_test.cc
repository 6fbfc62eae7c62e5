#include "model/stop_strings.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace mobe {
namespace {

struct Shown {
  std::string text;
  bool stopped;
  bool operator==(const Shown&) const = default;
};

// Pushes pieces of `size` bytes.
Shown Feed(const std::vector<std::string>& stops, std::string_view text,
           size_t size) {
  StopStrings matcher(stops);
  std::string shown;
  for (size_t at = 0; at < text.size(); at += size) {
    shown += matcher.Push(text.substr(at, size));
  }
  shown += matcher.Finish();
  return {shown, matcher.stopped()};
}

TEST(StopStringsTest, FindsStopsHoweverTheTextIsCut) {
  for (size_t size = 1; size < 12; ++size) {
    EXPECT_EQ(Feed({"END"}, "a EN EEND b", size), (Shown{"a EN E", true}));
    EXPECT_EQ(Feed({"aab"}, "aaaab", size), (Shown{"aa", true}));
    EXPECT_EQ(Feed({"###", "\n\n"}, "x ## \n y\n", size),
              (Shown{"x ## \n y\n", false}));
    EXPECT_EQ(Feed({}, "text", size), (Shown{"text", false}));
  }
}

TEST(StopStringsTest, TheEarliestOfOnePieceWins) {
  EXPECT_EQ(Feed({"long", "o"}, "a long text", 100), (Shown{"a ", true}));
}

TEST(StopStringsTest, HoldsBackOnlyWhatMayBecomeAStop) {
  StopStrings matcher({"</s>"});
  EXPECT_EQ(matcher.Push("one <"), "one ");
  EXPECT_EQ(matcher.Push("/b> </"), "</b> ");
  EXPECT_EQ(matcher.Push("s> two"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.Push("three"), "");
  EXPECT_EQ(matcher.Finish(), "");
}

TEST(StopStringsTest, RefusesAnEmptyStop) {
  EXPECT_THROW(StopStrings({"a", ""}), Error);
}

}  // namespace
}  // namespace mobe
