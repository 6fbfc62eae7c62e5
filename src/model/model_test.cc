#include "model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <string>

#include "base/error.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "model/test_models.h"

namespace mobe::model_test {
namespace {

constexpr int64_t kTokens = 24;  // of each golden sequence
const char* const kModels[] = {"qwen3_moe",
                               "qwen3_mobe",
                               "qwen3_mobe_reconstructed",
                               "deepseek_v2",
                               "deepseek_v3",
                               "deepseek_v3_fp8",
                               "deepseek_v3_mobe",
                               "deepseek_v3_mobe_reconstructed",
                               "kimi_k2",
                               "kimi_k2_mobe",
                               "bailing_moe",
                               "bailing_moe_biased",
                               "bailing_moe_mobe",
                               "bailing_moe_v2",
                               "glm4_moe",
                               "hy_v3",
                               "minimax_m2",
                               "mixtral",
                               "moonlight",
                               "olmoe",
                               "qwen2_moe",
                               "qwen3_5_moe",
                               "qwen3_next"};
constexpr ExpertMode kModes[] = {ExpertMode::kBuilt, ExpertMode::kFused};

float LargestDifference(const std::vector<float>& a,
                        const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    // A NaN must count.
    if (!(std::abs(a[i] - b[i]) <= largest)) largest = std::abs(a[i] - b[i]);
  }
  return largest;
}

int32_t ArgMax(const float* logits, int64_t count) {
  return static_cast<int32_t>(std::max_element(logits, logits + count) -
                              logits);
}

// What must hold for each model and each way of running its experts.
class ModelTest
    : public testing::TestWithParam<std::tuple<const char*, ExpertMode>> {
 protected:
  std::string name() const { return std::get<0>(GetParam()); }
  Model Load(Precision precision) const {
    return Model::Load(TestModel(name()), {precision, std::get<1>(GetParam())});
  }
  std::vector<int32_t> ids() const {
    return Golden<int32_t>(name(), "input_ids");
  }
};

INSTANTIATE_TEST_SUITE_P(
    AllModels, ModelTest,
    testing::Combine(testing::ValuesIn(kModels), testing::ValuesIn(kModes)),
    [](const auto& param) {
      return std::string(std::get<0>(param.param)) +
             (std::get<1>(param.param) == ExpertMode::kBuilt ? "_built"
                                                             : "_fused");
    });

TEST_P(ModelTest, LogitsAndRoutingAreThoseOfTransformers) {
  const Model model = Load(Precision::kFloat32);
  std::map<int64_t, std::vector<int32_t>> experts;
  std::map<int64_t, std::vector<float>> weights;
  const std::vector<float> logits = RunModel(
      model, ids(), kTokens,
      [&](int64_t layer, const float*, const Routing& routing) {
        experts[layer].insert(experts[layer].end(), routing.experts.begin(),
                              routing.experts.end());
        weights[layer].insert(weights[layer].end(), routing.weights.begin(),
                              routing.weights.end());
      });
  EXPECT_LT(LargestDifference(logits, Golden<float>(name(), "logits")), 1e-3f);
  const ModelConfig& c = model.config();
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    EXPECT_EQ(experts.contains(layer), c.IsMoeLayer(layer)) << layer;
  }
  for (const auto& [layer, picked] : experts) {
    const std::string prefix = "router." + std::to_string(layer);
    EXPECT_EQ(picked, Golden<int32_t>(name(), prefix + ".topk_idx"));
    EXPECT_LT(LargestDifference(weights[layer],
                                Golden<float>(name(), prefix + ".topk_weight")),
              1e-4f);
  }
}

TEST_P(ModelTest, BFloat16StaysNear) {
  const std::vector<float> logits =
      RunModel(Load(Precision::kBFloat16), ids(), kTokens);
  const std::vector<float> golden = Golden<float>(name(), "logits");
  ASSERT_EQ(logits.size(), golden.size());
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < golden.size(); ++i) {
    error += std::pow(logits[i] - golden[i], 2);
    norm += std::pow(golden[i], 2);
  }
  // By what the original's own bfloat16 is off. Most of it comes from the few
  // tokens that rounding routes to other experts, and which ones is chance.
  const std::filesystem::path measured =
      TestModel(name().substr(0, name().find("_reconstructed"))) /
      "golden.json";
  const Json golden_json = ParseJson(ReadSmallFile(measured), measured);
  const double original =
      golden_json["tolerance"]["fp32_vs_bfloat16_math"]["rel_rms"];
  EXPECT_LT(std::sqrt(error / norm), 2 * original);
  EXPECT_GT(error, 0);
}

// One token at a time. Each step goes on from the golden tokens, so that a
// choice too close to call does not spoil those behind it.
TEST_P(ModelTest, GreedyTokensAreThoseOfTransformers) {
  const Model model = Load(Precision::kFloat32);
  const Json golden = GoldenJson(name());
  std::vector<int32_t> tokens = golden["prompt"].get<std::vector<int32_t>>();
  KvCache cache(model.config(), 64);
  std::vector<float> logits(static_cast<size_t>(model.config().vocab_size));
  int compared = 0;
  for (size_t i = 0; i < golden["greedy_continuation"].size(); ++i) {
    model.Forward(tokens, &cache, LogitsFor::kLast, logits.data());
    const int32_t expected = golden["greedy_continuation"][i];
    tokens = {expected};
    if (golden["top1_minus_top2_logit"][i] < 0.005) continue;
    EXPECT_EQ(ArgMax(logits.data(), model.config().vocab_size), expected) << i;
    ++compared;
  }
  EXPECT_GE(compared, 15);
}

TEST_P(ModelTest, TokenByTokenEqualsOnePrefill) {
  const Model model = Load(Precision::kFloat32);
  std::vector<int32_t> tokens = ids();
  tokens.resize(kTokens);
  const std::vector<float> at_once = RunModel(model, tokens, kTokens);
  // Pieces of several lengths, so that a piece also starts behind others.
  KvCache cache(model.config(), kTokens);
  std::vector<float> stepwise(at_once.size());
  int64_t at = 0;
  for (const int64_t piece : {1, 1, 7, 1, 10, 4}) {
    model.Forward({tokens.data() + at, static_cast<size_t>(piece)}, &cache,
                  LogitsFor::kAll,
                  stepwise.data() + at * model.config().vocab_size);
    at += piece;
  }
  EXPECT_EQ(cache.length(), kTokens);
  EXPECT_LT(LargestDifference(stepwise, at_once), 1e-4f);
}

// Tokens of a sequence in a batch.
struct PartCase {
  int64_t before;  // tokens in the cache
  int64_t tokens;
  LogitsFor logits;
};

// Logits of sequences in one batch, and of each alone.
struct BatchLogits {
  std::vector<float> together, alone;
};

BatchLogits RunBatch(const Model& model, std::vector<int32_t> tokens,
                     std::span<const PartCase> cases) {
  const int64_t vocab = model.config().vocab_size;
  std::deque<std::vector<int32_t>> sequences;
  std::deque<KvCache> caches;
  std::vector<BatchPart> batch;
  BatchLogits result;
  for (const PartCase& c : cases) {
    std::ranges::rotate(tokens, tokens.begin() + 5);
    const int64_t end = c.before + c.tokens;
    const std::span<const int32_t> sequence =
        sequences.emplace_back(tokens.begin(), tokens.begin() + end);
    KvCache* cache = &caches.emplace_back(model.config(), end);
    const auto before = sequence.first(static_cast<size_t>(c.before));
    const auto part = sequence.subspan(static_cast<size_t>(c.before));
    if (!before.empty()) {
      model.Forward(before, cache, LogitsFor::kNone, nullptr);
    }
    const Phase phase = c.tokens == 1 ? Phase::kDecode : Phase::kPrefill;
    batch.push_back({part, cache, c.logits, phase});
    std::vector<float> all(part.size() * static_cast<size_t>(vocab));
    KvCache alone = *cache;
    const BatchPart one{part, &alone, LogitsFor::kAll, phase};
    model.Forward({&one, 1}, all.data());
    const int64_t wanted = c.logits == LogitsFor::kAll    ? c.tokens
                           : c.logits == LogitsFor::kLast ? 1
                                                          : 0;
    result.alone.insert(result.alone.end(), all.end() - wanted * vocab,
                        all.end());
  }
  result.together.resize(result.alone.size());
  model.Forward(batch, result.together.data());
  for (size_t i = 0; i < caches.size(); ++i) {
    EXPECT_EQ(caches[i].length(), std::ssize(sequences[i]));
  }
  return result;
}

// Each sequence is as it would be alone, to the bit, in either precision.
TEST_P(ModelTest, ABatchIsItsSequences) {
  const PartCase cases[] = {
      {10, 1, LogitsFor::kLast}, {0, 11, LogitsFor::kAll},
      {5, 9, LogitsFor::kNone},  {0, 1, LogitsFor::kAll},
      {17, 7, LogitsFor::kLast}, {3, 1, LogitsFor::kNone},
      {0, 24, LogitsFor::kAll},  {9, 2, LogitsFor::kLast}};
  for (const Precision precision :
       {Precision::kFloat32, Precision::kBFloat16}) {
    const auto [together, alone] = RunBatch(Load(precision), ids(), cases);
    EXPECT_EQ(together, alone);
  }
}

TEST_P(ModelTest, EveryKernelSetAgrees) {
  const std::string best = Kernels().name;
  const std::vector<float> golden = Golden<float>(name(), "logits");
  for (const KernelSet& set : SupportedKernels()) {
    ForceKernels(set.name);
    EXPECT_LT(LargestDifference(
                  RunModel(Load(Precision::kFloat32), ids(), kTokens), golden),
              1e-3f)
        << set.name;
  }
  ForceKernels(best);
}

TEST_P(ModelTest, ThreadsDoNotChangeABit) {
  for (const Precision precision :
       {Precision::kFloat32, Precision::kBFloat16}) {
    const auto run = [&](int threads) {
      SetThreads(threads);
      return RunModel(Load(precision), ids(), kTokens);
    };
    const std::vector<float> one = run(1);
    EXPECT_EQ(run(2), one);
    EXPECT_EQ(run(3), one);
    SetThreads(0);
  }
}

// The text part alone, with names as it had them in the whole, or without.
TEST(TextPartTest, IsTheSameModel) {
  const std::filesystem::path whole = TestModel("qwen3_5_moe");
  const Json config =
      ParseJson(ReadSmallFile(whole / "config.json"), "")["text_config"];
  const SafetensorsFile file(whole / "model.safetensors");
  for (const bool renamed : {false, true}) {
    const TemporaryFolder folder;
    WriteFileAtomically(folder.path() / "config.json", config.dump());
    const auto name_of = [&](std::string name) {
      constexpr std::string_view kInside = "language_model.";
      const size_t at = name.find(kInside);
      if (renamed && at != std::string::npos) name.erase(at, kInside.size());
      return name;
    };
    std::vector<TensorDecl> decls;
    for (const TensorView& tensor : file.tensors()) {
      decls.push_back({name_of(tensor.name), tensor.dtype, tensor.shape});
    }
    SafetensorsWriter writer(folder.path() / "model.safetensors", decls);
    for (const TensorView& tensor : file.tensors()) {
      writer.Append(name_of(tensor.name), tensor.data);
    }
    writer.Commit();
    const Model model = Model::Load(folder.path(), {});
    EXPECT_LT(LargestDifference(
                  RunModel(model, Golden<int32_t>("qwen3_5_moe", "input_ids"),
                           kTokens),
                  Golden<float>("qwen3_5_moe", "logits")),
              1e-3f);
    EXPECT_THAT(model.stop_ids(), testing::ElementsAre(0));
  }
}

// More tokens than experts take in one product by vectors, and more than pass
// through the layers together.
TEST(LongPromptTest, ChunksAndModesAgree) {
  const Model built = Model::Load(TestModel("qwen3_mobe"),
                                  {Precision::kFloat32, ExpertMode::kBuilt});
  const Model fused = Model::Load(TestModel("qwen3_mobe"),
                                  {Precision::kFloat32, ExpertMode::kFused});
  constexpr int64_t kLong = 1100;
  std::vector<int32_t> tokens;
  for (int32_t t = 0; t < kLong; ++t) tokens.push_back(t * 131 % 512);
  const std::vector<float> at_once = RunModel(built, tokens, kLong);
  EXPECT_LT(LargestDifference(RunModel(fused, tokens, kLong), at_once), 1e-3f);
  KvCache cache(built.config(), kLong);
  std::vector<float> last(static_cast<size_t>(built.config().vocab_size));
  built.Forward({tokens.data(), 500}, &cache, LogitsFor::kLast, last.data());
  built.Forward({tokens.data() + 500, kLong - 500}, &cache, LogitsFor::kLast,
                last.data());
  EXPECT_LT(LargestDifference(
                last, {at_once.end() - static_cast<int64_t>(last.size()),
                       at_once.end()}),
            1e-3f);
}

// Experts from the disk, and passes that all go through a layer before the next
// one: what comes out is what passes one after the other give, to the bit.
class SharedLayersTest : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Attentions, SharedLayersTest,
                         testing::Values("qwen3_mobe", "deepseek_v3",
                                         "qwen3_next"));

TEST_P(SharedLayersTest, GiveWhatPassesAloneGive) {
  const std::filesystem::path folder = TestModel(GetParam());
  LoadOptions options;
  options.experts = ExpertMode::kStreamed;
  SetThreads(2);  // for which memory is planned, too
  constexpr int64_t kRoom = int64_t{75} << 20;  // most of it the program's
  options.memory = ResidentBytes().all + kRoom;
  const Model streamed = Model::Load(folder, options);
  options = {};
  options.experts = ExpertMode::kFused;
  const Model stored = Model::Load(folder, options);
  ASSERT_GT(streamed.step_tokens(), streamed.pass_tokens());
  // Texts that lie in one pass, and that begin in one and end in the next.
  const int64_t length = std::min<int64_t>(stored.config().max_positions, 600);
  const int64_t counts[] = {7, length, 30, length, length, 1};
  ASSERT_LT(streamed.pass_tokens(), 2 * length + 100);
  const auto run = [&](const Model& model) {
    std::vector<std::vector<int32_t>> texts;
    std::vector<KvCache> caches;
    std::vector<BatchPart> batch;
    for (const int64_t count : counts) {
      std::vector<int32_t>& text = texts.emplace_back();
      for (int64_t t = 0; t < count; ++t) {
        text.push_back(static_cast<int32_t>(t * 131 + count) % 100);
      }
      caches.push_back(model.NewCache(count));
    }
    for (size_t i = 0; i < texts.size(); ++i) {
      batch.push_back({texts[i], &caches[i], LogitsFor::kLast});
    }
    std::vector<float> logits(texts.size() *
                              static_cast<size_t>(model.config().vocab_size));
    model.Forward(batch, logits.data());
    return logits;
  };
  EXPECT_EQ(run(streamed), run(stored));
  SetThreads(0);
}

// A batch of more tokens than pass through the layers together: a sequence is
// cut where a pass ends.
TEST(LongPromptTest, LargeBatchesAreCut) {
  const Model model = Model::Load(TestModel("qwen3_mobe"), {});
  std::vector<std::vector<int32_t>> prompts;
  std::vector<KvCache> caches;
  for (const int64_t count : {700, 1, 900, 600}) {
    std::vector<int32_t>& prompt = prompts.emplace_back();
    for (int32_t t = 0; t < count; ++t) {
      prompt.push_back((t * 131 + static_cast<int32_t>(count)) % 512);
    }
    caches.emplace_back(model.config(), count);
  }
  std::vector<BatchPart> batch;
  std::vector<float> expected;
  for (size_t i = 0; i < prompts.size(); ++i) {
    batch.push_back({prompts[i], &caches[i], LogitsFor::kLast});
    const std::vector<float> alone =
        RunModel(model, prompts[i], std::ssize(prompts[i]));
    expected.insert(expected.end(), alone.end() - 512, alone.end());
  }
  std::vector<float> logits(expected.size());
  model.Forward(batch, logits.data());
  EXPECT_LT(LargestDifference(logits, expected), 1e-4f);
}

TEST(ModelErrorTest, OneBadSequenceLeavesAllAsTheyWere) {
  const Model model = Model::Load(TestModel("qwen3_moe"), {});
  KvCache good(model.config(), 4);
  KvCache full(model.config(), 1);
  const int32_t tokens[] = {1, 2};
  const BatchPart batch[] = {{tokens, &good, LogitsFor::kNone},
                             {tokens, &full, LogitsFor::kNone}};
  EXPECT_THROW(model.Forward(batch, nullptr), Error);
  EXPECT_EQ(good.length(), 0);
}

TEST(ModelErrorTest, RefusesWhatItCannotRun) {
  const Model model = Model::Load(TestModel("qwen3_moe"), {});
  KvCache cache(model.config(), 4);
  std::vector<float> logits(512);
  const auto message = [&](std::vector<int32_t> tokens) {
    try {
      model.Forward(tokens, &cache, LogitsFor::kLast, logits.data());
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUserInput);
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(message({}), testing::HasSubstr("no tokens"));
  EXPECT_THAT(message({1, 512}), testing::HasSubstr("512"));
  EXPECT_THAT(message({-1}), testing::HasSubstr("-1"));
  EXPECT_EQ(message({1, 2, 3}), "");
  EXPECT_THAT(message({1, 2}), testing::HasSubstr("limited to 4"));
  EXPECT_EQ(cache.length(), 3);
  EXPECT_EQ(message({511}), "");
  EXPECT_THROW(KvCache(model.config(), 0), Error);
  EXPECT_THROW(KvCache(model.config(), model.config().max_positions + 1),
               Error);
}

TEST(ModelErrorTest, NaNWeightsDoNotCrash) {
  const TemporaryFolder folder;
  std::filesystem::copy(TestModel("qwen3_mobe"), folder.path());
  const auto path = folder.path() / "model.safetensors";
  std::filesystem::permissions(path, std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add);
  std::string bytes = ReadSmallFile(path);
  {
    const SafetensorsFile file(path);
    for (const char* name : {"model.layers.0.post_attention_layernorm.weight",
                             "model.layers.1.mlp.B_gate"}) {
      const TensorView& tensor = file.At(name);
      const auto at = tensor.data.data() - file.file().bytes().data();
      std::fill_n(bytes.begin() + at, tensor.data.size(), '\xff');
    }
  }
  WriteFileAtomically(path, bytes);
  for (const ExpertMode mode : kModes) {
    const Model model = Model::Load(folder.path(), {Precision::kFloat32, mode});
    const std::vector<float> logits =
        RunModel(model, Golden<int32_t>("qwen3_mobe", "input_ids"), kTokens);
    EXPECT_TRUE(std::isnan(logits.back()));
  }
}

TEST(StopIdsTest, ReadsIdsOfBothConfigs) {
  const TemporaryFolder folder;
  std::filesystem::copy(TestModel("qwen3_mobe"), folder.path());
  const auto path = folder.path() / "generation_config.json";
  std::filesystem::remove(path);
  WriteFileAtomically(path, R"({"eos_token_id": [7, 3]})");
  EXPECT_THAT(Model::Load(folder.path(), {}).stop_ids(),
              testing::ElementsAre(2, 3, 7));
  WriteFileAtomically(path, R"({"eos_token_id": -1})");
  EXPECT_THAT(Model::Load(folder.path(), {}).stop_ids(),
              testing::ElementsAre(2));
}

}  // namespace
}  // namespace mobe::model_test
