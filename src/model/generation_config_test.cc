#include "model/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"

namespace mobe::generation_config_test {
namespace {

SamplerOptions Read(const std::string& json) {
  const TempFolder folder;
  WriteText(folder / "generation_config.json", json);
  return WithGenerationConfig(folder.path(), {.temperature = 1});
}

TEST(GenerationConfigTest, TakesWhatIsThere) {
  const SamplerOptions all = Read(
      R"({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95,
          "min_p": 0.05, "repetition_penalty": 1.05, "eos_token_id": [2]})");
  EXPECT_EQ(all.temperature, 0.6);
  EXPECT_EQ(all.top_k, 20);
  EXPECT_EQ(all.top_p, 0.95);
  EXPECT_EQ(all.min_p, 0.05);
  EXPECT_EQ(all.repetition_penalty, 1.05);
  EXPECT_EQ(Read("{}").temperature, 1);
  EXPECT_EQ(Read(R"({"temperature": null})").temperature, 1);
  EXPECT_EQ(Read(R"({"temperature": 0.6, "do_sample": false})").temperature, 0);
  const TempFolder empty;
  EXPECT_EQ(WithGenerationConfig(empty.path(), {.top_k = 3}).top_k, 3);
}

TEST(GenerationConfigTest, RefusesWhatCantBe) {
  for (const char* json : {R"({"temperature": -1})", R"({"top_p": 0})",
                           R"({"top_k": "many"})", R"({"min_p": 2})"}) {
    EXPECT_THROW(Read(json), Error);
  }
}

}  // namespace
}  // namespace mobe::generation_config_test
