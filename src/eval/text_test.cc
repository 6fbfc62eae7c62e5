#include "eval/text.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "base/file.h"
#include "model/test_models.h"
#include "text/tokenizer.h"

namespace mobe {
namespace {

const std::filesystem::path kModel = TestModel("qwen3_moe");

// A folder with the tokenizer of kModel.
class EvalTextTest : public testing::Test {
 protected:
  EvalTextTest() { std::filesystem::copy(kModel / "tokenizer.json", folder_); }

  EvalText Read(const std::string& text, int64_t max_tokens = INT64_MAX) {
    WriteFileAtomically(folder_ / "text", text);
    return ReadEvalText(folder_, folder_ / "text", max_tokens);
  }
  void Configure(const std::string& json) {
    WriteFileAtomically(folder_ / "tokenizer_config.json", json);
  }

  const TemporaryFolder temporary_;
  const std::filesystem::path& folder_ = temporary_.path();
};

TEST_F(EvalTextTest, KeepsTheFirstTokens) {
  const EvalText all = Read("one two three four");
  EXPECT_EQ(all.tokens, Tokenizer::Load(folder_).Encode("one two three four"));
  EXPECT_EQ(all.source, (folder_ / "text").string());
  const EvalText some = Read("one two three four", 3);
  EXPECT_EQ(some.tokens,
            std::vector<int32_t>(all.tokens.begin(), all.tokens.begin() + 3));
  EXPECT_TRUE(Read("").tokens.empty());
}

TEST_F(EvalTextTest, TakesOnlyText) {
  EXPECT_EQ(Read("\ufeffone two").tokens, Read("one two").tokens);
  EXPECT_EQ(Read(std::string("\xff\xfeo\0n\0e\0", 8)).tokens,
            Read("one").tokens);
  EXPECT_THROW(Read("\x1f\x8b\x08"), Error);
  EXPECT_THROW(Read("a\xff"), Error);
}

TEST_F(EvalTextTest, BosOnlyWhereTheTokenizerAddsIt) {
  EXPECT_EQ(Read("a").bos, std::nullopt);
  Configure(R"({"bos_token": "<s>"})");
  EXPECT_EQ(Read("a").bos, std::nullopt);
  Configure(R"({"bos_token": "<s>", "add_bos_token": false})");
  EXPECT_EQ(Read("a").bos, std::nullopt);
  Configure(R"({"bos_token": "<s>", "add_bos_token": true})");
  EXPECT_EQ(Read("a").bos, Tokenizer::Load(folder_).TokenId("<s>"));
  Configure(R"({"bos_token": {"content": "<s>"}, "add_bos_token": true})");
  EXPECT_NE(Read("a").bos, std::nullopt);
}

TEST_F(EvalTextTest, RefusesABosThatIsNoToken) {
  for (const char* json : {R"({"bos_token": "<?>", "add_bos_token": true})",
                           R"({"bos_token": 1, "add_bos_token": true})",
                           R"({"add_bos_token": true})", "[]"}) {
    Configure(json);
    try {
      Read("a");
      ADD_FAILURE() << "no error for " << json;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kCorruptFile) << error.what();
    }
  }
}

TEST_F(EvalTextTest, ComparesTokenizers) {
  EXPECT_NO_THROW(CheckSameTokenizer(kModel, folder_));
  WriteFileAtomically(folder_ / "tokenizer.json",
                      ReadSmallFile(kModel / "tokenizer.json") + " ");
  try {
    CheckSameTokenizer(kModel, folder_);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUserInput);
  }
}

}  // namespace
}  // namespace mobe
