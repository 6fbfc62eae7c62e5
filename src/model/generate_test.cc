#include "model/generate.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "model/test_models.h"

namespace mobe {
namespace {

class GenerateTest : public testing::Test {
 protected:
  GenerateResult Continue(const GenerateOptions& options) {
    text_.clear();
    return Generate(model_, tokenizer_, prompt_, options,
                    [this](std::string_view piece) { text_ += piece; });
  }

  const Model model_ = Model::Load(TestModel("qwen3_mobe"), {});
  const Tokenizer tokenizer_ = Tokenizer::Load(TestModel("qwen3_mobe"));
  const std::vector<int32_t> prompt_ =
      GoldenJson("qwen3_mobe")["prompt"].get<std::vector<int32_t>>();
  const std::vector<int32_t> golden_ =
      GoldenJson("qwen3_mobe")["greedy_continuation"]
          .get<std::vector<int32_t>>();
  std::string text_;
};

TEST_F(GenerateTest, GreedyTextIsThatOfTransformers) {
  const GenerateResult result = Continue({.max_tokens = 16});
  EXPECT_EQ(text_, tokenizer_.Decode(golden_, true));
  EXPECT_EQ(result.tokens, 16);
  EXPECT_EQ(result.prompt_tokens, 24);
  EXPECT_EQ(result.reason, FinishReason::kLength);
}

TEST_F(GenerateTest, StopsBeforeAStopStringAcrossTokens) {
  Continue({.max_tokens = 16});
  const std::string all = text_;
  // From the middle of one token's text to the middle of another's.
  const std::string stop = all.substr(all.size() / 2, 5);
  const GenerateResult result =
      Continue({.max_tokens = 16, .stop = {"never there", stop}});
  EXPECT_EQ(text_, all.substr(0, all.find(stop)));
  EXPECT_EQ(result.reason, FinishReason::kStop);
  EXPECT_LT(result.tokens, 16);
}

TEST_F(GenerateTest, StopsAtAnEndToken) {
  const TemporaryFolder folder;
  std::filesystem::copy(TestModel("qwen3_mobe"), folder.path());
  std::filesystem::remove(folder.path() / "generation_config.json");
  WriteFileAtomically(folder.path() / "generation_config.json",
                      Json{{"eos_token_id", {511, golden_[5]}}}.dump());
  const Model model = Model::Load(folder.path(), {});
  std::string text;
  const GenerateResult result =
      Generate(model, tokenizer_, prompt_, {.max_tokens = 16},
               [&](std::string_view piece) { text += piece; });
  EXPECT_EQ(result.reason, FinishReason::kStop);
  EXPECT_EQ(result.tokens, 6);
  EXPECT_EQ(text, tokenizer_.Decode({golden_.data(), 5}, true));
}

TEST_F(GenerateTest, SessionComputesOnlyWhatIsNew) {
  GenerateSession session(model_, tokenizer_, 64);
  std::string text;
  const auto show = [&](std::string_view piece) { text += piece; };
  const GenerateOptions options = {.max_tokens = 6};
  const std::string expected = tokenizer_.Decode({golden_.data(), 6}, true);
  EXPECT_EQ(session.Generate(prompt_, options, show).cached_tokens, 0);
  EXPECT_EQ(text, expected);

  // The prompt again: only its last token, whose logits are wanted.
  text.clear();
  EXPECT_EQ(session.Generate(prompt_, options, show).cached_tokens, 23);
  EXPECT_EQ(text, expected);

  // On from its answer, whose last token is not in the cache.
  std::vector<int32_t> longer = prompt_;
  longer.insert(longer.end(), golden_.begin(), golden_.begin() + 6);
  text.clear();
  EXPECT_EQ(session.Generate(longer, options, show).cached_tokens, 29);
  EXPECT_EQ(text, tokenizer_.Decode({golden_.data() + 6, 6}, true));

  // Another prompt, and back: what came after the difference is forgotten.
  std::vector<int32_t> other = prompt_;
  other[20] = (other[20] + 1) % 512;
  EXPECT_EQ(session.Generate(other, options, show).cached_tokens, 20);
  text.clear();
  EXPECT_EQ(session.Generate(prompt_, options, show).cached_tokens, 20);
  EXPECT_EQ(text, expected);
}

TEST_F(GenerateTest, SessionGoesOnAfterInterruptionsAndRefusals) {
  GenerateSession session(model_, tokenizer_, 30);
  std::string text;
  const auto show = [&](std::string_view piece) { text += piece; };
  const auto run = [&](int64_t tokens_before_stop) {
    text.clear();
    return session.Generate(prompt_, {.max_tokens = 16}, show,
                            [&] { return tokens_before_stop-- == 0; });
  };
  EXPECT_EQ(run(0).reason, FinishReason::kInterrupted);
  EXPECT_EQ(text, "");
  const GenerateResult result = run(3);
  EXPECT_EQ(result.reason, FinishReason::kInterrupted);
  EXPECT_EQ(result.tokens, 3);
  EXPECT_EQ(text, tokenizer_.Decode({golden_.data(), 3}, true));
  const std::vector<int32_t> too_long(31, 1);
  EXPECT_THROW(session.Generate(too_long, {}, show), Error);
  // The context has room for 6, and the last one needs none.
  const GenerateResult full = run(-1);
  EXPECT_EQ(full.reason, FinishReason::kLength);
  EXPECT_EQ(full.tokens, 7);
  EXPECT_EQ(text, tokenizer_.Decode({golden_.data(), 7}, true));
}

TEST_F(GenerateTest, ManyPromptsGiveTheTextsOfEach) {
  const GenerateOptions options = {.max_tokens = 16};
  Continue(options);
  const std::string all = text_;
  // From the middle of one token's text to the middle of another's.
  const std::string stop = all.substr(all.size() / 2, 5);
  std::vector<std::vector<int32_t>> prompts = {prompt_, {}, prompt_, {7, 8}};
  for (int32_t i = 0; i < 20; ++i) prompts.push_back({i, 300, 2 * i});
  std::vector<Answer> answers;
  GenerateAll(model_, tokenizer_, prompts,
              {.max_tokens = 16, .stop = {stop}, .log_probs = 1},
              [&](const Answer& answer) { answers.push_back(answer); });
  ASSERT_EQ(answers.size(), prompts.size());
  EXPECT_TRUE(answers[1].error);
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (i == 1) continue;
    std::string text;
    const GenerateResult alone = Generate(
        model_, tokenizer_, prompts[i], {.max_tokens = 16, .stop = {stop}},
        [&](std::string_view piece) { text += piece; });
    EXPECT_EQ(answers[i].text, text) << i;
    EXPECT_EQ(answers[i].result.reason, alone.reason) << i;
    EXPECT_EQ(answers[i].result.tokens, alone.tokens) << i;
    EXPECT_EQ(std::ssize(answers[i].result.sampled), alone.tokens) << i;
  }
  EXPECT_EQ(answers[0].result.reason, FinishReason::kStop);
  EXPECT_EQ(answers[0].text, all.substr(0, all.find(stop)));
}

TEST_F(GenerateTest, RefusesWhatItCannotDo) {
  EXPECT_THROW(Continue({.max_tokens = 0}), Error);
  EXPECT_THROW(Continue({.stop = {""}}), Error);
  EXPECT_THROW(Generate(model_, tokenizer_, {}, {}, [](std::string_view) {}),
               Error);
  const std::vector<int32_t> too_long(40961, 1);
  EXPECT_THROW(
      Generate(model_, tokenizer_, too_long, {}, [](std::string_view) {}),
      Error);
}

}  // namespace
}  // namespace mobe
