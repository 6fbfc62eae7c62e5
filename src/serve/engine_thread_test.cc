#include "serve/engine_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "model/test_models.h"

namespace mobe::engine_thread_test {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr milliseconds kLong(20'000);

class EngineThreadTest : public testing::Test {
 protected:
  const Model model_ =
      Model::Load(TestModel("qwen3_moe"), {Precision::kFloat32});

  static EngineRequest Request(int32_t first, int64_t max_tokens = 8) {
    return {.prompt = {first, 5, 9}, .max_tokens = max_tokens};
  }
  std::vector<int32_t> Alone(const EngineRequest& request) const {
    Engine engine(model_, {});
    engine.Add(request);
    std::vector<int32_t> tokens;
    while (!engine.idle()) {
      for (const EngineEvent& event : engine.Step()) {
        tokens.push_back(event.token);
      }
    }
    return tokens;
  }
};

// The tokens of each text.
std::map<size_t, std::vector<int32_t>> Read(EngineThread::Ticket* ticket,
                                            size_t texts) {
  std::map<size_t, std::vector<int32_t>> tokens;
  while (texts > 0) {
    const std::optional<TicketEvent> next = ticket->Next(kLong);
    if (!next || next->event.error) {
      ADD_FAILURE() << (next ? next->event.error->what() : "nothing came");
      return tokens;
    }
    tokens[next->text].push_back(next->event.token);
    if (next->event.finish) --texts;
  }
  return tokens;
}

void WaitForIdle(const EngineThread& thread) {
  for (int i = 0; i < 2000 && !thread.idle(); ++i) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_TRUE(thread.idle());
}

TEST_F(EngineThreadTest, TextsOfManyThreadsAreThoseOfEachAlone) {
  std::vector<std::vector<int32_t>> expected;
  for (int32_t c = 0; c < 8; ++c) {
    expected.push_back(Alone(Request(c)));
    expected.push_back(Alone(Request(c + 20, 3)));
  }
  EngineThread thread(model_, {.engine = {.sequences = 3}, .waiting = 100});
  std::vector<std::thread> clients;
  for (int32_t c = 0; c < 8; ++c) {
    clients.emplace_back([&, c] {
      EngineThread::Ticket ticket = thread.Submit(
          std::to_string(c % 3),
          {Request(c), Request(c), Request(c), Request(c + 20, 3)});
      auto texts = Read(&ticket, 4);
      const auto k = static_cast<size_t>(2 * c);
      for (const size_t i : {0U, 1U, 2U}) EXPECT_EQ(texts[i], expected[k]);
      EXPECT_EQ(texts[3], expected[k + 1]);
    });
  }
  for (std::thread& client : clients) client.join();
  WaitForIdle(thread);
  const EngineStatistics statistics = thread.statistics();
  EXPECT_EQ(statistics.prompt_tokens, 8 * 4 * 3);
  EXPECT_EQ(statistics.tokens, 8 * (3 * 8 + 3));
  EXPECT_EQ(statistics.running, 0);
}

TEST_F(EngineThreadTest, WhoGivesUpFreesTheEngine) {
  const std::vector<int32_t> third = Alone(Request(3));
  const std::vector<int32_t> fifth = Alone(Request(5));
  EngineThread thread(model_, {.engine = {.sequences = 1}});
  {
    EngineThread::Ticket endless = thread.Submit("a", {Request(1, 100'000)});
    ASSERT_TRUE(endless.Next(kLong));
    EngineThread::Ticket waiting = thread.Submit("b", {Request(2, 100'000)});
    EXPECT_FALSE(waiting.Next(milliseconds(20)));
    EXPECT_EQ(thread.statistics().waiting, 1);
  }
  EngineThread::Ticket next = thread.Submit("c", {Request(3)});
  EXPECT_EQ(Read(&next, 1)[0], third);
  // One of two.
  EngineThread::Ticket two =
      thread.Submit("c", {Request(4, 100'000), Request(5)});
  ASSERT_TRUE(two.Next(kLong));
  two.Cancel(0);
  EXPECT_EQ(Read(&two, 1)[1], fifth);
  WaitForIdle(thread);
}

// A client with many texts holds one with few up for no more than a text.
TEST_F(EngineThreadTest, RoomGoesToWhoHasLeast) {
  EngineThread thread(model_, {.engine = {.sequences = 2}});
  std::vector<EngineRequest> many;
  for (int32_t i = 0; i < 30; ++i) many.push_back(Request(i, 40));
  EngineThread::Ticket first = thread.Submit("greedy", many);
  ASSERT_TRUE(first.Next(kLong));
  EngineThread::Ticket second = thread.Submit("modest", {Request(50, 4)});
  Read(&second, 1);
  EXPECT_EQ(thread.statistics().running, 2);
  EXPECT_LT(thread.statistics().tokens, 30 * 40 / 2);
}

TEST_F(EngineThreadTest, RefusesWhatIsTooMuch) {
  EngineThread thread(model_, {.engine = {.sequences = 1}, .waiting = 1});
  EXPECT_THROW(thread.Submit("a", {{.prompt = {}}}), Error);
  EXPECT_THROW(thread.Submit("a", {Request(1), Request(512)}), Error);
  EngineThread::Ticket runs = thread.Submit("a", {Request(1, 100'000)});
  ASSERT_TRUE(runs.Next(kLong));
  const EngineThread::Ticket waits = thread.Submit("a", {Request(1)});
  EXPECT_THROW(thread.Submit("b", {Request(1)}), QueueIsFull);
  thread.Close();
  EXPECT_THROW(thread.Submit("b", {Request(1)}), QueueIsClosed);
}

}  // namespace
}  // namespace mobe::engine_thread_test
