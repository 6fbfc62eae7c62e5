#include "cli/progress_bar.h"

#include <gtest/gtest.h>

#include <string>

#include "base/visible.h"

namespace mobe {
namespace {

using internal::BarText;

TEST(ProgressBar, PrintsWarningsAlsoWhenQuiet) {
  testing::internal::CaptureStderr();
  ProgressBar bar({.quiet = true});
  bar.Show({0.5, "layer 1", "layer 1 is done"});
  bar.AsFunction()(Warning("2 tensors\nare \x1b[1mzero"));
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "mobe: warning: 2 tensors\\nare \\u001b[1mzero\n");
  for (const std::string expected :
       {"{\n  \"ok\": true,\n  \"warnings\": [\n    \"2 tensors\\\\nare "
        "\\\\u001b[1mzero\"\n  ]\n}\n",
        "{\n  \"ok\": true,\n  \"warnings\": []\n}\n"}) {
    testing::internal::CaptureStdout();
    PrintJson({{"ok", true}});
    std::fflush(stdout);
    EXPECT_EQ(testing::internal::GetCapturedStdout(), expected);
  }
}

// What is captured is no terminal.
TEST(ProgressBar, PrintsResultsWithoutATerminal) {
  testing::internal::CaptureStderr();
  ProgressBar bar({});
  bar.Show({0.1, "layer 1", ""});
  bar.Show({0.2, "", "layer 1\x1b[2J is done"});
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "layer 1\\u001b[2J is done\n");
}

TEST(ProgressBar, ALineAMinuteWithoutATerminal) {
  static double now;
  now = 1000;
  testing::internal::CaptureStderr();
  ProgressBar bar({}, [] { return now; });
  for (int i = 0; i <= 300; i += 10) {
    now = 1000 + i;
    bar.Show({i / 600.0, "layer 1", ""});
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "10% layer 1, ETA 9m00s\n20% layer 1, ETA 8m00s\n"
            "30% layer 1, ETA 7m00s\n40% layer 1, ETA 6m00s\n"
            "50% layer 1, ETA 5m00s\n");
}

TEST(ProgressBar, FitsTheTerminal) {
  EXPECT_EQ(BarText(0.5, "layer 12 gate", "1h02m", 79),
            "[############............]  50%  layer 12 gate  ETA 1h02m");
  EXPECT_EQ(BarText(0.5, "layer 12 gate", "1h02m", 39),
            "[###...]  50%  layer 12 gate  ETA 1h02m");
  EXPECT_EQ(BarText(0, "layer 12 gate", "1h02m", 30),
            "  0%  layer 12 gate  ETA 1h02m");
  EXPECT_EQ(BarText(1, "layer 12 gate", "1h02m", 25),
            "100%  layer ..  ETA 1h02m");
  EXPECT_EQ(BarText(0.5, "layer 12 gate", "1h02m", 19), " 50%  ETA 1h02m");
  EXPECT_EQ(BarText(0.5, "", "?", 19), "[##...]  50%  ETA ?");
  EXPECT_EQ(BarText(0.5, "layer 12 gate", "1h02m", 9), " 50%");
  EXPECT_EQ(BarText(0.5, "layer 12 gate", "1h02m", 3), "");
  for (const std::string what :
       {"", "up", "layer 12 gate", "\u4e2d\u6587\u4e2d\u6587\u4e2d\u6587"}) {
    for (int columns = 0; columns < 100; ++columns) {
      for (const double fraction : {0.0, 0.004, 0.999, 1.0}) {
        const std::string text = BarText(fraction, what, "12h34m", columns);
        EXPECT_LE(ColumnsOf(text), columns) << text;
      }
    }
  }
}

}  // namespace
}  // namespace mobe
