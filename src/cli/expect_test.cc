#include "cli/expect.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace mobe {
namespace {

// What was refused, or nothing.
std::string Refused(CLI::App* app, std::vector<std::string> arguments) {
  std::ranges::reverse(arguments);  // as CLI11 wants them
  try {
    app->parse(arguments);
  } catch (const CLI::ParseError& e) {
    return e.what();
  }
  return "";
}

TEST(Expect, WholeNumbers) {
  CLI::App app;
  std::optional<int64_t> count;
  uint64_t seed = 0;
  ExpectWhole(app.add_option("--count", count), 1);
  ExpectWhole(app.add_option("--seed", seed), 0, UINT64_MAX);
  ExpectWhole(app.add_option("--threads", count), 1, 4096);
  for (const std::string text : {"0", "-1", " 1", "1 ", "+1", "1.5", "1e3",
                                 "0x10", "nan", "x", "18446744073709551616"}) {
    EXPECT_EQ(Refused(&app, {"--count=" + text}),
              "--count " + text + ": expected a whole number, 1 or more");
  }
  EXPECT_EQ(Refused(&app, {"--threads", "4097"}),
            "--threads 4097: expected a whole number from 1 to 4,096");
  EXPECT_EQ(Refused(&app, {"--count", ""}),
            "--count : expected a whole number, 1 or more");
  EXPECT_EQ(count, std::nullopt);
  EXPECT_EQ(Refused(&app, {"--count", "010"}), "");
  EXPECT_EQ(count, 10);
  EXPECT_EQ(Refused(&app, {"--seed", "18446744073709551615"}), "");
  EXPECT_EQ(seed, UINT64_MAX);
}

TEST(Expect, Numbers) {
  CLI::App app;
  std::optional<double> ratio;
  ExpectNumber(app.add_option("--ratio", ratio), "a number above 0 and below 1",
               [](double r) { return r > 0 && r < 1; });
  for (const std::string text :
       {"0", "1", "-0.5", "nan", "inf", "-inf", "0.5x", "0x0.8p0", "1e999"}) {
    EXPECT_EQ(Refused(&app, {"--ratio=" + text}),
              "--ratio " + text + ": expected a number above 0 and below 1");
  }
  EXPECT_EQ(ratio, std::nullopt);
  EXPECT_EQ(Refused(&app, {"--ratio", "5e-1"}), "");
  EXPECT_EQ(ratio, 0.5);
}

TEST(Expect, Names) {
  CLI::App app;
  std::string dtype;
  std::string cache;
  ExpectOneOf(app.add_option("--dtype", dtype), {"float32", "bfloat16"});
  ExpectOneOf(app.add_option("--cache", cache), {"f32", "bf16", "int8"});
  EXPECT_EQ(Refused(&app, {"--dtype", "int8"}),
            "--dtype int8: expected float32, bfloat16");
  for (const std::string text : {"f32", "fp32", "float32"}) {
    EXPECT_EQ(Refused(&app, {"--dtype", text, "--cache", text}), "");
    EXPECT_EQ(dtype, "float32");
    EXPECT_EQ(cache, "f32");
  }
  EXPECT_EQ(Refused(&app, {"--dtype", "bf16", "--cache", "bfloat16"}), "");
  EXPECT_EQ(dtype, "bfloat16");
  EXPECT_EQ(cache, "bf16");
}

TEST(Expect, FormsAndValues) {
  CLI::App app;
  std::string layers;
  std::string prompt;
  std::string start;
  bool flag = false;
  ExpectForm(app.add_option("--layers", layers), [](const std::string& text) {
    if (text != "3") Fail(ErrorKind::kUserInput, "--layers {}: not 3", text);
  });
  app.add_option("--prompt", prompt);
  app.add_option_group("group")->add_option("--start", start);
  app.add_flag("--flag", flag);
  ExpectValues(&app);
  EXPECT_EQ(Refused(&app, {"--layers", "4"}), "--layers 4: not 3");
  EXPECT_EQ(Refused(&app, {"--layers", ""}), "--layers : not 3");
  EXPECT_EQ(Refused(&app, {"--start", ""}),
            "--start: expected a value, found an empty one");
  EXPECT_EQ(Refused(&app, {"--prompt", "", "--layers", "3", "--flag"}), "");
  EXPECT_TRUE(flag);
}

}  // namespace
}  // namespace mobe
