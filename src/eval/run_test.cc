#include "eval/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "base/error.h"
#include "model/test_models.h"

namespace mobe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const Model& Tiny() {
  static const Model model = Model::Load(TestModel("qwen3_moe"), {});
  return model;
}

EvalText TextOf(int64_t tokens) {
  EvalText text;
  text.source = "numbers";
  text.tokens.resize(static_cast<size_t>(tokens));
  std::iota(text.tokens.begin(), text.tokens.end(), 5);
  for (int32_t& token : text.tokens) token %= 512;
  return text;
}

struct Seen {
  EvalRun run;
  std::vector<int32_t> targets;
  std::vector<float> logits;  // of each target
  int64_t pieces = 0;
};

Seen RunTiny(const EvalText& text, const EvalOptions& options) {
  Seen seen;
  int64_t announced = 0;
  const Model* const models[] = {&Tiny()};
  seen.run = RunWindows(
      models, text, options, [&](int64_t tokens) { announced = tokens; },
      [&](const Piece& piece) {
        EXPECT_EQ(piece.first, std::ssize(seen.targets));
        for (int64_t i = 0; i < std::ssize(piece.targets); ++i) {
          const int32_t target = piece.targets[static_cast<size_t>(i)];
          seen.targets.push_back(target);
          seen.logits.push_back(piece.Row(0, i)[static_cast<size_t>(target)]);
        }
        ++seen.pieces;
      });
  EXPECT_EQ(announced, seen.run.tokens);
  EXPECT_EQ(std::ssize(seen.targets), seen.run.tokens);
  return seen;
}

EvalOptions OptionsOf(const Protocol& protocol, int64_t context) {
  EvalOptions options;
  options.protocol = protocol;
  options.context = context;
  return options;
}

TEST(RunTest, TargetsOfTheProtocols) {
  EXPECT_THAT(RunTiny(TextOf(6), OptionsOf(Protocols()[0], 4)).targets,
              ElementsAre(6, 7, 8, 10));
  EXPECT_THAT(RunTiny(TextOf(17), OptionsOf(Protocols()[1], 8)).targets,
              ElementsAre(10, 11, 12, 18, 19, 20));
}

TEST(RunTest, SmallPiecesGiveTheSameLogits) {
  for (const Protocol& protocol : Protocols()) {
    EvalOptions options = OptionsOf(protocol, 12);
    const Seen whole = RunTiny(TextOf(24), options);
    EXPECT_EQ(whole.pieces, 2);
    options.logits_bytes =
        3 * Tiny().config().vocab_size * static_cast<int64_t>(sizeof(float));
    const Seen pieces = RunTiny(TextOf(24), options);
    EXPECT_GT(pieces.pieces, 2);
    EXPECT_EQ(pieces.targets, whole.targets);
    EXPECT_THAT(pieces.logits,
                testing::Pointwise(testing::FloatNear(2e-5f), whole.logits));
  }
}

// 30 windows of 40 tokens, and of hf a last one of 10: 25 pass through the
// model together, or two, or one.
TEST(RunTest, WindowsSideBySideGiveTheSameLogits) {
  for (const Protocol& protocol : Protocols()) {
    EvalOptions options = OptionsOf(protocol, 40);
    const Seen together = RunTiny(TextOf(1210), options);
    EXPECT_EQ(together.pieces, protocol.whole_only ? 30 : 31);
    for (const int64_t rows : {40, 85}) {
      options.logits_bytes = rows * Tiny().config().vocab_size *
                             static_cast<int64_t>(sizeof(float));
      const Seen few = RunTiny(TextOf(1210), options);
      EXPECT_EQ(few.targets, together.targets);
      EXPECT_THAT(few.logits, testing::Pointwise(testing::FloatNear(2e-5f),
                                                 together.logits));
    }
  }
}

TEST(RunTest, LlamaCppStartsEachChunkAtBos) {
  const EvalOptions options = OptionsOf(Protocols()[1], 8);
  EvalText with_bos = TextOf(15);
  with_bos.bos = 1;
  const Seen seen = RunTiny(with_bos, options);
  // The text moves one behind, and makes up 16 tokens with BOS.
  EXPECT_THAT(seen.targets, ElementsAre(9, 10, 11, 17, 18, 19));
  EvalText by_hand = TextOf(15);
  by_hand.tokens.insert(by_hand.tokens.begin(), 1);
  by_hand.tokens[8] = 1;
  EXPECT_EQ(seen.logits, RunTiny(by_hand, options).logits);

  // The other protocol never adds it.
  EXPECT_THAT(RunTiny(with_bos, OptionsOf(Protocols()[0], 16)).targets.front(),
              6);
}

TEST(RunTest, DefaultContextIsTheProtocols) {
  const Seen seen = RunTiny(TextOf(4), OptionsOf(Protocols()[0], 0));
  EXPECT_EQ(seen.run.context, 2048);
}

std::string Complaint(const EvalText& text, const EvalOptions& options) {
  try {
    RunTiny(text, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUserInput);
    return error.what();
  }
  return "";
}

TEST(RunTest, RefusesTextsThatAreTooShort) {
  EXPECT_THAT(Complaint(TextOf(0), OptionsOf(Protocols()[0], 0)),
              HasSubstr("numbers: 0 tokens, too few"));
  EXPECT_THAT(Complaint(TextOf(1), OptionsOf(Protocols()[0], 0)),
              HasSubstr("numbers: 1 token, too few"));
  EXPECT_THAT(Complaint(TextOf(400), OptionsOf(Protocols()[1], 0)),
              HasSubstr("needs 512 or more"));
}

TEST(RunTest, RefusesAContextBeyondTheModels) {
  const int64_t limit = Tiny().config().max_positions;
  EXPECT_THAT(Complaint(TextOf(9), OptionsOf(Protocols()[0], limit + 1)),
              HasSubstr("a context of 40961, but the model's is 40960"));
}

}  // namespace
}  // namespace mobe
