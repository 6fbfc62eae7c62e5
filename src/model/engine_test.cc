#include "model/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/parallel.h"
#include "model/test_models.h"

namespace mobe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Texts = std::map<int64_t, std::vector<int32_t>>;  // by id

std::vector<int32_t> PromptOf(int64_t tokens, int32_t first) {
  std::vector<int32_t> prompt;
  for (int32_t t = 0; t < tokens; ++t) {
    prompt.push_back((first + t * 131) % 512);
  }
  return prompt;
}

// Steps until all have ended. None may fail.
Texts RunAll(Engine* engine) {
  Texts texts;
  while (!engine->idle()) {
    for (const EngineEvent& event : engine->Step()) {
      EXPECT_FALSE(event.error) << event.error->what();
      texts[event.id].push_back(event.token);
    }
  }
  return texts;
}

std::vector<int32_t> Alone(const Model& model, const EngineRequest& request) {
  Engine engine(model, {.sequences = 1, .step_tokens = 1024});
  engine.Add(request);
  return RunAll(&engine)[0];
}

// Prompts shorter and longer than what a step takes, some that begin alike.
std::vector<EngineRequest> Requests(int64_t vocab) {
  std::vector<EngineRequest> requests;
  int32_t first = 7;
  for (const int64_t tokens : {1, 24, 3, 50, 11, 2, 40, 8, 17, 1, 5, 29}) {
    EngineRequest request{.prompt = PromptOf(tokens, first % 40),
                          .max_tokens = 4 + first % 9};
    for (int32_t& token : request.prompt) token %= static_cast<int32_t>(vocab);
    // Every third one is sampled, by its own seed.
    if (first % 3 == 0) {
      request.sampler = {
          .temperature = 1.0, .top_k = 3, .seed = static_cast<uint64_t>(first)};
    }
    requests.push_back(request);
    first += 11;
  }
  return requests;
}

const char* const kFamilies[] = {"qwen3_moe",          "qwen3_mobe",
                                 "deepseek_v2",        "deepseek_v3_fp8",
                                 "deepseek_v3_mobe",   "kimi_k2_mobe",
                                 "bailing_moe_biased", "bailing_moe_mobe",
                                 "qwen3_5_moe",        "qwen3_next"};

class EngineTest
    : public testing::TestWithParam<std::tuple<const char*, ExpertMode, int>> {
 protected:
  void SetUp() override { SetThreads(std::get<2>(GetParam())); }
  void TearDown() override { SetThreads(0); }
  // With several threads in bfloat16.
  Model Load() const {
    const auto& [name, mode, threads] = GetParam();
    return Model::Load(
        TestModel(name),
        {threads == 1 ? Precision::kFloat32 : Precision::kBFloat16, mode});
  }
};

INSTANTIATE_TEST_SUITE_P(
    AllFamilies, EngineTest,
    testing::Combine(testing::ValuesIn(kFamilies),
                     testing::Values(ExpertMode::kBuilt, ExpertMode::kFused),
                     testing::Values(1, 2)),
    [](const auto& param) {
      return fmt::format(
          "{}_{}_{}", std::get<0>(param.param),
          std::get<1>(param.param) == ExpertMode::kBuilt ? "built" : "fused",
          std::get<2>(param.param));
    });

TEST_P(EngineTest, TextsAreThoseOfEachAlone) {
  const Model model = Load();
  std::vector<EngineRequest> requests = Requests(model.config().vocab_size);
  std::vector<std::vector<int32_t>> alone;
  for (const EngineRequest& request : requests) {
    alone.push_back(Alone(model, request));
    EXPECT_EQ(std::ssize(alone.back()), request.max_tokens);
  }
  // All at once; few at a time, in reverse order; and one more with each step.
  for (const EngineOptions& options :
       {EngineOptions{}, EngineOptions{.sequences = 3, .step_tokens = 7}}) {
    Engine engine(model, options);
    for (const EngineRequest& request : requests) engine.Add(request);
    const Texts texts = RunAll(&engine);
    for (size_t i = 0; i < alone.size(); ++i) {
      EXPECT_EQ(texts.at(static_cast<int64_t>(i)), alone[i]) << i;
    }
    std::ranges::reverse(requests);
    std::ranges::reverse(alone);
  }
  Engine engine(model, {.step_tokens = 16});
  Texts texts;
  for (const EngineRequest& request : requests) {
    engine.Add(request);
    for (const EngineEvent& event : engine.Step()) {
      texts[event.id].push_back(event.token);
    }
  }
  for (const auto& [id, rest] : RunAll(&engine)) {
    texts[id].insert(texts[id].end(), rest.begin(), rest.end());
  }
  for (size_t i = 0; i < alone.size(); ++i) {
    EXPECT_EQ(texts.at(static_cast<int64_t>(i)), alone[i]) << i;
  }
}

// Of one model, what the engine does about its texts.
class EngineRulesTest : public testing::Test {
 protected:
  std::vector<int32_t> Ids(const std::vector<EngineEvent>& events) const {
    std::vector<int32_t> ids;
    for (const EngineEvent& event : events) {
      ids.push_back(static_cast<int32_t>(event.id));
    }
    return ids;
  }
  std::string Refusal(Engine* engine, const EngineRequest& request) const {
    try {
      engine->Add(request);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUserInput);
      return error.what();
    }
    return "";
  }
  const Model model_ = Model::Load(TestModel("qwen3_mobe"), {});
};

TEST_F(EngineRulesTest, ALongPromptDoesNotHoldTheOthersUp) {
  Engine engine(model_, {.sequences = 3, .step_tokens = 8});
  engine.Add({.prompt = PromptOf(3, 1), .max_tokens = 20});
  engine.Add({.prompt = PromptOf(2, 2), .max_tokens = 20});
  EXPECT_THAT(Ids(engine.Step()), ElementsAre(0, 1));
  engine.Add({.prompt = PromptOf(20, 3), .max_tokens = 2});
  // 6 tokens of the prompt a step, beside one of each of the others.
  for (int step = 0; step < 3; ++step) {
    EXPECT_THAT(Ids(engine.Step()), ElementsAre(0, 1));
  }
  EXPECT_THAT(Ids(engine.Step()), ElementsAre(0, 1, 2));
}

TEST_F(EngineRulesTest, WhatIsBeyondTheBoundsWaitsInOrder) {
  Engine engine(model_, {.sequences = 2, .cache_tokens = 20});
  // Contexts of 10, 12, 4 and 3: the last token is not computed from.
  engine.Add({.prompt = PromptOf(8, 1), .max_tokens = 3});
  engine.Add({.prompt = PromptOf(11, 2), .max_tokens = 2});
  engine.Add({.prompt = PromptOf(3, 3), .max_tokens = 2});
  engine.Add({.prompt = PromptOf(2, 4), .max_tokens = 2});
  // The second one does not fit beside the first, and the third, which does,
  // doesn't overtake it.
  EXPECT_THAT(Ids(engine.Step()), ElementsAre(0));
  EXPECT_THAT(Ids(engine.Step()), ElementsAre(0));
  EXPECT_THAT(Ids(engine.Step()), ElementsAre(0));
  EXPECT_THAT(Ids(engine.Step()), ElementsAre(1, 2));
  EXPECT_THAT(Ids(engine.Step()), ElementsAre(1, 2));
  EXPECT_THAT(Ids(engine.Step()), ElementsAre(3));
  EXPECT_THAT(Ids(engine.Step()), ElementsAre(3));
  EXPECT_TRUE(engine.idle());
  EXPECT_THAT(engine.Step(), IsEmpty());
}

TEST_F(EngineRulesTest, CancelledTextsMakeRoomAndLeaveTheOthersAlone) {
  const EngineRequest first{.prompt = PromptOf(8, 1), .max_tokens = 12};
  const EngineRequest second{.prompt = PromptOf(30, 2), .max_tokens = 12};
  const EngineRequest third{.prompt = PromptOf(5, 3), .max_tokens = 12};
  Engine engine(model_, {.sequences = 2, .step_tokens = 8});
  engine.Add(first);
  engine.Add(second);
  engine.Add(third);
  engine.Add(first);
  EXPECT_THAT(Ids(engine.Step()), ElementsAre(0));
  EXPECT_TRUE(engine.Cancel(1));  // within its prompt
  EXPECT_TRUE(engine.Cancel(3));  // waiting
  EXPECT_FALSE(engine.Cancel(3));
  EXPECT_FALSE(engine.Cancel(9));
  const Texts rest = RunAll(&engine);
  std::vector<int32_t> of_first = Alone(model_, first);
  of_first.erase(of_first.begin());  // came with the first step
  EXPECT_EQ(rest, (Texts{{0, of_first}, {2, Alone(model_, third)}}));
}

TEST_F(EngineRulesTest, RefusalsLeaveTheOthersAlone) {
  Engine engine(model_, {.sequences = 2, .cache_tokens = 10});
  const EngineRequest good{.prompt = PromptOf(8, 1), .max_tokens = 3};
  engine.Add(good);
  EXPECT_THAT(Refusal(&engine, {.prompt = {}}), HasSubstr("no tokens"));
  EXPECT_THAT(Refusal(&engine, {.prompt = {5, 512}}), HasSubstr("512"));
  EXPECT_THAT(Refusal(&engine, {.prompt = PromptOf(11, 1)}),
              HasSubstr("11 tokens, but the context is limited to 10"));
  EXPECT_THAT(Refusal(&engine, {.prompt = {5}, .max_tokens = 0}),
              HasSubstr("max tokens is 0"));
  EXPECT_THAT(Refusal(&engine, {.prompt = {5}, .sampler = {.top_p = 2}}),
              HasSubstr("top-p"));
  EXPECT_THAT(Refusal(&engine, {.prompt = {5}, .log_probs = -1}),
              HasSubstr("-1"));
  EXPECT_EQ(RunAll(&engine), (Texts{{0, Alone(model_, good)}}));

  EXPECT_THROW(Engine(model_, {.sequences = 0}), Error);
  EXPECT_THROW(Engine(model_, {.sequences = 9, .step_tokens = 8}), Error);
}

TEST_F(EngineRulesTest, TinyContextsEndTheirTexts) {
  Engine engine(model_, {.cache_tokens = 1, .step_tokens = 16});
  engine.Add({.prompt = {5}, .max_tokens = 9});
  const std::vector<EngineEvent> events = engine.Step();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].finish, FinishReason::kLength);
  EXPECT_TRUE(engine.idle());
}

TEST_F(EngineRulesTest, StopsAtItsOwnStopIds) {
  const EngineRequest request{.prompt = PromptOf(8, 1), .max_tokens = 12};
  const std::vector<int32_t> all = Alone(model_, request);
  EngineRequest stopped = request;
  stopped.stop_ids = {511, all[4]};
  const auto end = std::ranges::find(all, all[4]) + 1;
  Engine engine(model_, {});
  engine.Add(stopped);
  engine.Add(request);
  EXPECT_EQ(RunAll(&engine), (Texts{{0, {all.begin(), end}}, {1, all}}));
}

TEST_F(EngineRulesTest, GoesOnFromAKeptSequence) {
  const EngineRequest request{.prompt = PromptOf(20, 1), .max_tokens = 5};
  Sequence sequence{KvCache(model_.config(), 40)};
  EngineRequest kept = request;
  kept.sequence = &sequence;
  Engine engine(model_, {});
  engine.Add(kept);
  const std::vector<int32_t> text = RunAll(&engine)[0];
  EXPECT_EQ(text, Alone(model_, request));
  EXPECT_EQ(sequence.cache.length(), 24);
  kept.prompt.insert(kept.prompt.end(), text.begin(), text.end());
  kept.prompt[22] = (kept.prompt[22] + 1) % 512;
  EngineRequest anew = kept;
  anew.sequence = nullptr;
  engine.Add(kept);
  EXPECT_EQ(sequence.cache.length(), 22);
  EXPECT_EQ(RunAll(&engine)[1], Alone(model_, anew));
}

TEST_F(EngineRulesTest, LogProbabilitiesAreTheModels) {
  Engine engine(model_, {});
  // Whatever the sampler makes of them.
  engine.Add({.prompt = PromptOf(8, 1),
              .sampler = {.temperature = 3.0, .top_k = 2, .seed = 4},
              .log_probs = 3});
  engine.Add({.prompt = PromptOf(8, 1)});
  const std::vector<EngineEvent> events = engine.Step();
  ASSERT_EQ(events.size(), 2U);
  const std::vector<float> logits = RunModel(model_, PromptOf(8, 1), 8);
  const LogProbs expected =
      LogProbsOf({logits.end() - 512, logits.end()}, events[0].token, 3);
  const LogProbs& found = events[0].log_probs;
  EXPECT_NEAR(found.log_prob, expected.log_prob, 1e-5);
  ASSERT_EQ(found.top.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(found.top[i].token, expected.top[i].token);
    EXPECT_NEAR(found.top[i].log_prob, expected.top[i].log_prob, 1e-5);
  }
  EXPECT_THAT(events[1].log_probs.top, IsEmpty());
}

// Of a prompt that is computed in parts, beside another text, and whose
// beginning is known already.
TEST_F(EngineRulesTest, LogProbabilitiesOfAPromptAreTheModels) {
  const std::vector<int32_t> prompt = PromptOf(70, 1);
  Engine engine(model_, {.sequences = 2, .step_tokens = 16});
  engine.Add({.prompt = prompt, .max_tokens = 3});
  RunAll(&engine);
  engine.Add({.prompt = PromptOf(20, 9), .max_tokens = 12});
  engine.Add({.prompt = prompt,
              .max_tokens = 0,
              .log_probs = 2,
              .prompt_log_probs = true});
  std::vector<LogProbs> found;
  while (!engine.idle()) {
    for (EngineEvent& event : engine.Step()) {
      if (event.id != 2) continue;
      EXPECT_EQ(event.token, -1);
      EXPECT_EQ(event.finish, FinishReason::kLength);
      EXPECT_EQ(event.cached_tokens, 0);
      found = std::move(event.prompt_log_probs);
    }
  }
  ASSERT_EQ(found.size(), prompt.size() - 1);
  const std::vector<float> logits =
      RunModel(model_, prompt, std::ssize(prompt));
  for (size_t i = 0; i < found.size(); ++i) {
    const LogProbs expected =
        LogProbsOf(std::span(logits).subspan(i * 512, 512), prompt[i + 1], 2);
    EXPECT_NEAR(found[i].log_prob, expected.log_prob, 1e-5);
    ASSERT_EQ(found[i].top.size(), 2U);
    EXPECT_NEAR(found[i].top[0].log_prob, expected.top[0].log_prob, 1e-5);
  }
  // Of a single token there is none, and what follows is as ever.
  engine.Add({.prompt = {5}, .max_tokens = 2, .prompt_log_probs = true});
  EXPECT_EQ(RunAll(&engine)[3],
            Alone(model_, {.prompt = {5}, .max_tokens = 2}));
}

// A second text finds what the first has computed, its answer included; the
// pages of a text that runs are shared, too.
TEST_F(EngineRulesTest, TextsThatBeginAlikeShare) {
  const Model model = Model::Load(TestModel("qwen3_moe"), {});
  const int64_t page = kPageTokens;
  const EngineRequest first{.prompt = PromptOf(2 * page + 3, 1),
                            .max_tokens = page};
  EngineRequest longer = first;
  const std::vector<int32_t> text = Alone(model, first);
  longer.prompt.insert(longer.prompt.end(), text.begin(), text.end());
  const std::vector<int32_t> right = Alone(model, longer);

  Engine engine(model, {});
  const auto cached = [&](const EngineRequest& request) {
    const int64_t id = engine.Add(request);
    for (const EngineEvent& event : engine.Step()) {
      if (event.id == id) return event.cached_tokens;
    }
    return int64_t{-1};
  };
  EXPECT_EQ(cached(first), 0);
  EXPECT_EQ(cached(first), 2 * page);
  RunAll(&engine);
  const int64_t id = engine.Add(longer);
  std::vector<int32_t> found;
  while (!engine.idle()) {
    for (const EngineEvent& event : engine.Step()) {
      EXPECT_EQ(event.id, id);
      // The last token of the text was not computed, nor is a part of a page.
      EXPECT_EQ(event.cached_tokens, (3 * page + 2) / page * page);
      found.push_back(event.token);
    }
  }
  EXPECT_EQ(found, right);
  EXPECT_EQ(cached({.prompt = PromptOf(2 * page + 3, 2)}), 0);
}

// Delta nets have a state of all that was before. It is kept behind the whole
// pages of a prompt, with which others may begin; a sequence that is kept goes
// on from its end, or begins anew.
TEST_F(EngineRulesTest, TextsWithStatesSharePrompts) {
  for (const char* name : {"qwen3_5_moe", "qwen3_next"}) {
    const Model model = Model::Load(TestModel(name), {});
    std::vector<int32_t> prompt = PromptOf(2 * kPageTokens + 3, 1);
    for (int32_t& token : prompt) token %= 128;
    const EngineRequest first{.prompt = prompt, .max_tokens = 9};
    const std::vector<int32_t> text = Alone(model, first);
    EngineRequest longer = first;
    longer.prompt.insert(longer.prompt.end(), text.begin(), text.end());
    EngineRequest other = longer;
    other.prompt[70] = (other.prompt[70] + 1) % 128;

    Sequence sequence{KvCache(model.config(), 200)};
    const auto kept = [&sequence](EngineRequest request) {
      request.sequence = &sequence;
      return request;
    };
    Engine engine(model, {});
    std::vector<int64_t> cached;
    const auto run = [&](const EngineRequest& request) {
      const int64_t id = engine.Add(request);
      std::vector<int32_t> found;
      while (!engine.idle()) {
        for (const EngineEvent& event : engine.Step()) {
          EXPECT_EQ(event.id, id);
          found.push_back(event.token);
          if (found.size() == 1) cached.push_back(event.cached_tokens);
        }
      }
      return found;
    };
    EXPECT_EQ(run(first), text);
    EXPECT_EQ(engine.pages(), 2);
    EXPECT_EQ(run(longer), Alone(model, longer));
    EXPECT_EQ(run(other), Alone(model, other));
    EXPECT_EQ(run(longer), Alone(model, longer));
    EXPECT_EQ(run(kept(first)), text);
    EXPECT_EQ(run(kept(longer)), Alone(model, longer));
    EXPECT_EQ(run(kept(other)), Alone(model, other));
    // Together, some waiting for others' pages.
    Engine busy(model,
                {.sequences = 3, .cache_tokens = 512, .step_tokens = 48});
    const EngineRequest* const requests[] = {&first, &longer, &other, &longer,
                                             &first, &other,  &longer};
    for (const EngineRequest* request : requests) busy.Add(*request);
    const Texts texts = RunAll(&busy);
    for (size_t i = 0; i < std::size(requests); ++i) {
      EXPECT_EQ(texts.at(static_cast<int64_t>(i)), Alone(model, *requests[i]));
    }
    const int64_t all = std::ssize(prompt) + std::ssize(text) - 1;
    EXPECT_THAT(cached,
                ElementsAre(0, 2 * kPageTokens, 0, 2 * kPageTokens, 0, all, 0));
  }
}

// Texts that have ended make room for others.
TEST_F(EngineRulesTest, MemoryIsBounded) {
  const Model model = Model::Load(TestModel("qwen3_moe"), {});
  const int64_t tokens = 4 * kPageTokens;
  Engine engine(model, {.sequences = 2, .cache_tokens = tokens});
  for (int32_t i = 0; i < 20; ++i) {
    const EngineRequest request{.prompt = PromptOf(tokens / 2 - 4, i),
                                .max_tokens = 5};
    engine.Add(request);
    if (i % 3 == 0) continue;
    RunAll(&engine);
  }
  EXPECT_LE(engine.pages(), 4 + 2);
  EXPECT_GE(engine.pages(), 4);
}

}  // namespace
}  // namespace mobe
