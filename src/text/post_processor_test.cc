#include "text/post_processor.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"

namespace mobe::post_processor_test {
namespace {

using Ids = std::vector<int32_t>;

constexpr const char* kTemplate = R"({"type": "TemplateProcessing", "single": [
    {"SpecialToken": {"id": "<s>", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}},
    {"SpecialToken": {"id": "</s>", "type_id": 0}}],
  "special_tokens": {"<s>": {"id": "<s>", "ids": [1, 5], "tokens": []},
                     "</s>": {"id": "</s>", "ids": [2], "tokens": []}}})";

SpecialAffixes Corrected(const char* config) {
  SpecialAffixes affixes{{7}, {8}};
  const auto token_id = [](std::string_view token) {
    return token == "<s>"    ? std::optional(1)
           : token == "</s>" ? std::optional(2)
                             : std::nullopt;
  };
  CorrectAffixes(Json::parse(config), token_id, "test", affixes);
  return affixes;
}

TEST(PostProcessorTest, Templates) {
  const Json json = Json::parse(kTemplate);
  const SpecialAffixes affixes = ReadPostProcessor(json, "test");
  EXPECT_EQ(affixes.before, (Ids{1, 5}));
  EXPECT_EQ(affixes.behind, (Ids{2}));
  const Json bytes = {{"type", "ByteLevel"}};
  EXPECT_TRUE(ReadPostProcessor(bytes, "test").empty());
  EXPECT_TRUE(ReadPostProcessor(nullptr, "test").empty());
  const auto sequence = [](const Json& parts) {
    return Json{{"type", "Sequence"}, {"processors", parts}};
  };
  EXPECT_EQ(ReadPostProcessor(sequence({bytes, json, bytes}), "test").before,
            (Ids{1, 5}));
  EXPECT_THROW(ReadPostProcessor(sequence({json, json}), "test"), Error);
}

TEST(PostProcessorTest, RefusesWhatItCannotRead) {
  Json json = Json::parse(kTemplate);
  json["single"][0]["SpecialToken"]["id"] = "<x>";
  EXPECT_THROW(ReadPostProcessor(json, "test"), Error);
  json = Json::parse(kTemplate);
  json["special_tokens"]["<s>"]["ids"] = {-1};
  EXPECT_THROW(ReadPostProcessor(json, "test"), Error);
  json = Json::parse(kTemplate);
  json["single"].erase(1);
  EXPECT_THROW(ReadPostProcessor(json, "test"), Error);
  EXPECT_THROW(ReadPostProcessor({{"type", "RobertaProcessing"}}, "test"),
               Error);
}

TEST(PostProcessorTest, ConfigHasTheLastWord) {
  // Another tokenizer: only what is said counts.
  SpecialAffixes affixes = Corrected(R"({"bos_token": "<s>"})");
  EXPECT_EQ(affixes.before, (Ids{7}));
  EXPECT_EQ(affixes.behind, (Ids{8}));
  affixes = Corrected(R"({"add_bos_token": false, "add_eos_token": null})");
  EXPECT_EQ(affixes.before, Ids{});
  EXPECT_EQ(affixes.behind, (Ids{8}));
  affixes = Corrected(R"({"add_bos_token": true, "add_eos_token": true,
      "bos_token": {"content": "<s>"}, "eos_token": "</s>"})");
  EXPECT_EQ(affixes.before, (Ids{1}));
  EXPECT_EQ(affixes.behind, (Ids{2}));
  // Llama's has defaults.
  affixes = Corrected(
      R"({"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>"})");
  EXPECT_EQ(affixes.before, (Ids{1}));
  EXPECT_EQ(affixes.behind, Ids{});
  EXPECT_THROW(Corrected(R"({"tokenizer_class": "LlamaTokenizer"})"), Error);
}

}  // namespace
}  // namespace mobe::post_processor_test
