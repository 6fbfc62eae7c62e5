#include "mobe/modeling_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mobe {
namespace {

using ::testing::HasSubstr;

TEST(ModelingFileTest, DefinesTheClassesThatConfigsName) {
  EXPECT_THAT(ModelingFile(), HasSubstr("\nclass MobeForCausalLM"));
  EXPECT_THAT(ModelingFile(), HasSubstr("\nclass MobeConfig"));
}

TEST(ModelingFileTest, KeysComeAndGo) {
  constexpr char kModel[] = "modeling_mobe.MobeForCausalLM";
  const Json without = {{"model_type", "qwen3_moe"}};
  const Json with = {{"auto_map",
                      {{"AutoConfig", "configuration_a.AConfig"},
                       {"AutoModel", "modeling_a.AModel"},
                       {"AutoModelForCausalLM", "modeling_a.AForCausalLM"},
                       {"AutoTokenizer", "tokenization_a.ATokenizer"}}}};
  const Json empty = {{"auto_map", nullptr}};
  for (const Json& plain : {without, with, empty}) {
    Json config = plain;
    AddAutoMap(&config);
    EXPECT_EQ(config["auto_map"]["AutoModelForCausalLM"], kModel);
    EXPECT_TRUE(HasAutoMap(config));
    const Json once = config;
    AddAutoMap(&config);
    EXPECT_EQ(config, once);
    RemoveAutoMap(&config);
    EXPECT_EQ(config, plain);
    RemoveAutoMap(&config);
    EXPECT_EQ(config, plain);
  }
  Json config = with;
  AddAutoMap(&config);
  EXPECT_EQ(config["plain_auto_map"], with["auto_map"]);
  EXPECT_EQ(config["auto_map"],
            Json({{"AutoConfig", "modeling_mobe.MobeConfig"},
                  {"AutoModelForCausalLM", kModel},
                  {"AutoTokenizer", "tokenization_a.ATokenizer"}}));
}

TEST(ModelingFileTest, CodeOfTheOriginals) {
  Json config = {{"model_type", "kimi_k2"}};
  EXPECT_FALSE(NeedsOwnCode(config));
  AddAutoMap(&config);
  EXPECT_FALSE(NeedsOwnCode(config));
  config = {{"auto_map", {{"AutoConfig", "configuration_a.AConfig"}}}};
  EXPECT_TRUE(NeedsOwnCode(config));
  AddAutoMap(&config);
  EXPECT_TRUE(NeedsOwnCode(config));
}

}  // namespace
}  // namespace mobe
