#include "eval/log_likelihood.h"

#include <gtest/gtest.h>

#include "base/testing.h"
#include "eval/statistics.h"
#include "model/test_models.h"

namespace mobe {
namespace {

const std::filesystem::path kFolder = SourcePath("models/mini-qwen3-moe");

const Model& BundledModel() {
  static const Model model = Model::Load(kFolder, {});
  return model;
}

const Tokenizer& BundledTokenizer() {
  static const Tokenizer tokenizer = Tokenizer::Load(kFolder);
  return tokenizer;
}

// By one pass over all of the text.
double Directly(const Model& model, std::vector<int32_t> context,
                const std::vector<int32_t>& tokens) {
  const size_t begin = context.size();
  context.insert(context.end(), tokens.begin(), tokens.end());
  const std::vector<float> logits =
      RunModel(model, context, std::ssize(context));
  const auto vocab = static_cast<size_t>(model.config().vocab_size);
  double sum = 0;
  for (size_t i = begin; i < context.size(); ++i) {
    const std::span row(logits.data() + (i - 1) * vocab, vocab);
    sum += row[static_cast<size_t>(context[i])] - SoftmaxOf(row).log_sum;
  }
  return sum;
}

std::vector<int32_t> Ids(size_t count, int32_t first) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i < count; ++i) {
    ids.push_back((first + static_cast<int32_t>(i * i * 7)) % 1000);
  }
  return ids;
}

TEST(LogLikelihoodTest, EqualsOnePassOverEachText) {
  // Many of one context, one of a long one, one token, none.
  std::vector<Continuation> all;
  for (int32_t i = 0; i < 100; ++i) {
    all.push_back({Ids(70, 1), Ids(static_cast<size_t>(i % 5 + 1), i)});
  }
  all.push_back({Ids(300, 5), Ids(3, 9)});
  all.push_back({Ids(1, 5), Ids(1, 8)});
  all.push_back({Ids(2, 5), {}});
  const std::vector<double> sums = LogLikelihoods(BundledModel(), all);
  ASSERT_EQ(sums.size(), all.size());
  for (size_t i = 0; i < all.size(); i += i < 99 ? 11 : 1) {
    EXPECT_NEAR(sums[i],
                Directly(BundledModel(), all[i].context, all[i].tokens), 1e-3)
        << i;
  }
  EXPECT_EQ(sums.back(), 0);
}

// Each text that goes on from a context has states for itself: few at a time.
TEST(LogLikelihoodTest, OfModelsWithStates) {
  for (const int64_t sequences : {1, 5, 300}) {
    const Model model = Model::Load(SourcePath("tests/data/models/qwen3_next"),
                                    {.sequences = sequences});
    const auto ids = [](size_t count, int32_t first) {
      std::vector<int32_t> some = Ids(count, first);
      for (int32_t& id : some) id %= 128;
      return some;
    };
    std::vector<Continuation> all;
    for (int32_t i = 0; i < 20; ++i) {
      all.push_back({ids(70, i / 7), ids(static_cast<size_t>(i % 4 + 1), i)});
    }
    const std::vector<double> sums = LogLikelihoods(model, all);
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_NEAR(sums[i], Directly(model, all[i].context, all[i].tokens), 1e-3)
          << i;
    }
  }
}

TEST(LogLikelihoodTest, LeavesOutTheBeginningOfWhatIsTooLong) {
  const auto most = static_cast<size_t>(BundledModel().config().max_positions);
  const std::vector<int32_t> context = Ids(most + 10, 3);
  const std::vector<int32_t> tokens = Ids(4, 6);
  const std::vector<Continuation> one = {{context, tokens}};
  // As many as the model reads, the last token not among them.
  const std::vector<int32_t> end(context.end() - static_cast<int>(most - 3),
                                 context.end());
  const std::vector<Continuation> cut = {{end, tokens}};
  EXPECT_EQ(LogLikelihoods(BundledModel(), one),
            LogLikelihoods(BundledModel(), cut));
  ExpectError(ErrorKind::kUserInput, "an answer has", [&] {
    const std::vector<Continuation> long_answer = {{{1}, Ids(most + 1, 2)}};
    LogLikelihoods(BundledModel(), long_answer);
  });
}

TEST(LogLikelihoodTest, SpacesBelongToWhatFollows) {
  const Tokenizer& tokenizer = BundledTokenizer();
  const Continuation plain = EncodeContinuation(tokenizer, "The sea", " was");
  EXPECT_EQ(plain.context, tokenizer.Encode("The sea"));
  std::vector<int32_t> whole = plain.context;
  whole.insert(whole.end(), plain.tokens.begin(), plain.tokens.end());
  EXPECT_EQ(whole, tokenizer.Encode("The sea was"));
  const Continuation spaced = EncodeContinuation(tokenizer, "The sea ", "was");
  EXPECT_EQ(spaced.context, plain.context);
  EXPECT_EQ(spaced.tokens, plain.tokens);
}

}  // namespace
}  // namespace mobe
