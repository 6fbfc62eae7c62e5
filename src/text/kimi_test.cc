#include "text/kimi.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/testing.h"
#include "text/tokenizer.h"

namespace mobe::kimi_test {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

const std::filesystem::path kFolder = SourcePath("tests/data/text/kimi");

std::string Repeated(const std::string& part, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += part;
  return text;
}

// Parts, each with how often it is repeated.
std::string LongText(const Json& parts) {
  std::string text;
  for (const Json& part : parts) text += Repeated(part[0], part[1]);
  return text;
}

// scripts/make_kimi_goldens.py has written the folder.
TEST(KimiTest, IdsOfTiktoken) {
  const Tokenizer tokenizer = Tokenizer::Load(kFolder);
  const Json goldens = ParseJson(
      ReadSmallFile(fs::path(kFolder) / "goldens.json"), "goldens.json");
  ASSERT_GE(goldens.size(), 60u);
  for (const Json& golden : goldens) {
    SCOPED_TRACE(golden[0].dump());
    const bool is_long = golden[0].is_array();
    const std::string text =
        is_long ? LongText(golden[0]) : golden[0].get<std::string>();
    Ids ids = tokenizer.Encode(text);
    EXPECT_TRUE(tokenizer.Decode(ids) == text);
    if (is_long) {
      const Ids last = golden[2];
      EXPECT_EQ(ids.size(), golden[1].get<size_t>());
      ids.erase(ids.begin(), ids.end() - static_cast<ptrdiff_t>(last.size()));
      EXPECT_EQ(ids, last);
    } else {
      EXPECT_EQ(ids, golden[1].get<Ids>());
    }
  }
}

TEST(KimiTest, SpecialTokensAreThe256BehindTheVocabulary) {
  const Tokenizer tokenizer = Tokenizer::Load(kFolder);
  const int64_t size = tokenizer.vocab_size();
  EXPECT_EQ(tokenizer.TokenId("[BOS]"), size - 256);
  EXPECT_EQ(tokenizer.TokenId("[PAD]"), size - 1);
  EXPECT_EQ(tokenizer.TokenId("<|reserved_token_1000|>"), 1000);
  EXPECT_TRUE(tokenizer.IsSpecial(1000));
  EXPECT_EQ(tokenizer.Decode(Ids{97, 1000, 98}, true), "ab");
  EXPECT_TRUE(tokenizer.affixes().empty());
}

TEST(KimiTest, AddedTokensHaveTheFlagsOfTheConfig) {
  const Json pipeline =
      KimiPipeline(Json::parse(R"({"tokenizer_class": "TikTokenTokenizer",
                      "added_tokens_decoder": {
                        "300": {"content": "<a>", "special": true},
                        "302": {"content": "<b>", "rstrip": true}}})"),
                   300, "test");
  const Json& tokens = pipeline["added_tokens"];
  ASSERT_EQ(tokens.size(), 256u);
  EXPECT_EQ(tokens[0]["content"], "<a>");
  EXPECT_EQ(tokens[0]["special"], true);
  EXPECT_EQ(tokens[1]["content"], "<|reserved_token_301|>");
  EXPECT_EQ(tokens[1]["special"], true);
  EXPECT_EQ(tokens[2]["special"], false);
  EXPECT_EQ(tokens[2]["rstrip"], true);
  EXPECT_EQ(tokens[2]["id"], 302);
}

TEST(KimiTest, RefusesOtherConfigs) {
  for (const char* config :
       {"{}", "[]", R"({"tokenizer_class": "QWenTokenizer"})",
        R"({"tokenizer_class": "TikTokenTokenizer",
            "added_tokens_decoder": {"299": {"content": "<a>"}}})",
        R"({"tokenizer_class": "TikTokenTokenizer",
            "added_tokens_decoder": {"556": {"content": "<a>"}}})",
        R"({"tokenizer_class": "TikTokenTokenizer",
            "added_tokens_decoder": {"300": {}}})",
        R"({"tokenizer_class": "TikTokenTokenizer",
            "added_tokens_decoder": {"300": "<a>"}})",
        R"({"tokenizer_class": "TikTokenTokenizer",
            "added_tokens_decoder": []})"}) {
    EXPECT_THROW(KimiPipeline(Json::parse(config), 300, "test"), Error)
        << config;
  }
}

// Lengths of the chunks, in bytes.
std::vector<size_t> Lengths(const std::string& text) {
  std::vector<size_t> lengths;
  for (const std::string_view chunk : KimiChunks(text)) {
    lengths.push_back(chunk.size());
  }
  return lengths;
}

TEST(KimiTest, ChunksAreOfCharacters) {
  using Sizes = std::vector<size_t>;
  EXPECT_EQ(Lengths(""), Sizes{});
  EXPECT_EQ(Lengths(std::string(25'000, 'a')), (Sizes{25'000}));
  EXPECT_EQ(Lengths(std::string(50'001, 'a')), (Sizes{25'000, 25'000, 1}));
  EXPECT_EQ(Lengths("a" + std::string(25'001, ' ')), (Sizes{25'001, 1}));
  // U+001C and U+3000 are white space for Python.
  EXPECT_EQ(Lengths(Repeated("\x1c", 12'000) + Repeated("\u3000", 13'001)),
            (Sizes{12'000 + 3 * 13'000, 3}));
  EXPECT_EQ(Lengths(Repeated("é ", 200'001)), (Sizes{600'000, 3}));
  // Runs are counted anew in the next 400,000.
  EXPECT_EQ(Lengths(Repeated("a ", 190'000) + Repeated("a", 45'001)),
            (Sizes{400'000, 25'000, 1}));
}

}  // namespace
}  // namespace mobe::kimi_test
