#include "cli/progress_bar.h"

#include <gtest/gtest.h>

#include <string>

namespace mobe {
namespace {

TEST(ProgressBar, PrintsWarningsAlsoWhenQuiet) {
  testing::internal::CaptureStderr();
  ProgressBar bar({.quiet = true});
  bar.Show({0.5, "layer 1", "layer 1 is done"});
  bar.AsFunction()(Warning("2 tensors\nare zero"));
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "mobe: warning: 2 tensors are zero\n");
  for (const std::string expected :
       {"{\n  \"ok\": true,\n  \"warnings\": [\n    \"2 tensors are zero\"\n"
        "  ]\n}\n",
        "{\n  \"ok\": true,\n  \"warnings\": []\n}\n"}) {
    testing::internal::CaptureStdout();
    PrintJson({{"ok", true}});
    std::fflush(stdout);
    EXPECT_EQ(testing::internal::GetCapturedStdout(), expected);
  }
}

}  // namespace
}  // namespace mobe
