#include "speed/expert_needs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "model/test_models.h"
#include "speed/forward_operations.h"
#include "tensor/weight_view.h"

namespace mobe {
namespace {

using testing::ElementsAre;
using testing::Key;

std::map<std::string, ExpertNeed> NeedsOf(const std::filesystem::path& folder,
                                          int64_t bytes = 0) {
  std::map<std::string, ExpertNeed> needs;
  for (const ExpertNeed& need : ListExpertNeeds(ReadOutline(folder), bytes)) {
    needs[need.mode] = need;
  }
  return needs;
}

// As a model that runs counts them.
int64_t BytesOfRun(const std::string& name, LoadOptions options) {
  const Model model = Model::Load(TestModel(name), options);
  return model.DecodeBytes();
}

TEST(ExpertNeedsTest, BytesOfATokenAreThoseOfTheModelThatRuns) {
  for (const char* name : {"qwen3_moe", "bailing_moe", "deepseek_v2",
                           "deepseek_v3", "deepseek_v3_fp8", "kimi_k2"}) {
    auto needs = NeedsOf(TestModel(name));
    ASSERT_THAT(needs, ElementsAre(Key("plain"), Key("streamed"))) << name;
    EXPECT_EQ(needs["plain"].token_bytes, BytesOfRun(name, {})) << name;
  }
  for (const char* name :
       {"qwen3_mobe", "bailing_moe_mobe", "deepseek_v3_mobe", "kimi_k2_mobe"}) {
    auto needs = NeedsOf(TestModel(name));
    ASSERT_THAT(needs, ElementsAre(Key("built bfloat16"), Key("built float32"),
                                   Key("built int8"), Key("cached int8"),
                                   Key("fused"), Key("streamed")))
        << name;
    using enum Precision;
    EXPECT_EQ(needs["built float32"].token_bytes,
              BytesOfRun(name, {kFloat32, ExpertMode::kBuilt}))
        << name;
    EXPECT_EQ(needs["built bfloat16"].token_bytes,
              BytesOfRun(name, {.experts = ExpertMode::kBuilt,
                                .built = NumberFormat::kBF16}))
        << name;
    EXPECT_EQ(needs["fused"].token_bytes,
              BytesOfRun(name, {kFloat32, ExpertMode::kFused}))
        << name;
  }
}

// Qwen3 tiny: two layers with experts, of which four run: [32, 64] thrice.
TEST(ExpertNeedsTest, StreamedExpertsAreNotInMemory) {
  auto needs = NeedsOf(TestModel("qwen3_moe"));
  const int64_t expert = 3 * 32 * 64 * 2;
  EXPECT_EQ(needs["plain"].disk_bytes, 0);
  EXPECT_EQ(needs["streamed"].disk_bytes, 2 * 4 * expert);
  EXPECT_EQ(needs["streamed"].token_bytes, needs["plain"].token_bytes);
  EXPECT_EQ(needs["plain"].memory_bytes - needs["streamed"].memory_bytes,
            (2 * 16 - 2) * expert);
}

TEST(ExpertNeedsTest, BuiltInTheDtypeOfTheOriginalTakesItsMemory) {
  auto plain = NeedsOf(TestModel("qwen3_moe"));
  auto factored = NeedsOf(TestModel("qwen3_mobe"));
  EXPECT_EQ(factored["built bfloat16"].memory_bytes,
            plain["plain"].memory_bytes);
  // Two layers' gate and up of 16 experts.
  EXPECT_EQ(factored["built float32"].memory_bytes -
                factored["built bfloat16"].memory_bytes,
            2 * 2 * 16 * 32 * 64 * 2);
  // Two layers' gate and up, A [32, 32] of 16 experts and 4 bases [32, 64] in
  // bfloat16, alpha in float32, in their place.
  EXPECT_EQ(
      factored["built bfloat16"].memory_bytes - factored["fused"].memory_bytes,
      2 * 2 *
          (2 * 16 * 32 * 64 -
           (2 * 16 * 32 * 32 + 2 * 4 * 32 * 64 + 4 * 16 * 4)));
  EXPECT_EQ(factored["built float32"].token_operations,
            plain["plain"].token_operations);
  // 4 chosen experts: A, N and 4 alphas each, in place of W.
  EXPECT_NEAR(
      factored["fused"].token_operations - plain["plain"].token_operations,
      2 * 2 * 2 * 4 * (32 * (32 + 64) + 4 * 32 * 64 - 32 * 64), 1e-6);
}

// From none built, which is fused, to all of them.
TEST(ExpertNeedsTest, CachedIsBetweenFusedAndBuilt) {
  const auto folder = TestModel("qwen3_mobe");
  const ExpertNeed fused = NeedsOf(folder)["fused"];
  const ExpertNeed built = NeedsOf(folder)["built int8"];
  const auto cached = [&](int64_t left) {
    return NeedsOf(folder, fused.memory_bytes + left)["cached int8"];
  };
  // Gate and up.
  const int64_t expert =
      2 * WeightView{NumberFormat::kInt8, nullptr, 32, 64}.bytes();
  for (const int64_t left : {-fused.memory_bytes, int64_t{0}, 2 * expert - 1}) {
    const ExpertNeed none = cached(left);
    EXPECT_EQ(none.cached->built, 0);
    EXPECT_EQ(none.cached->all, 2 * 16);
    EXPECT_EQ(none.memory_bytes, fused.memory_bytes);
    EXPECT_EQ(none.token_bytes, fused.token_bytes);
    EXPECT_NEAR(none.token_operations, fused.token_operations, 1e-6);
  }
  const ExpertNeed all = cached(int64_t{1} << 40);
  EXPECT_EQ(all.cached->share(), 1);
  EXPECT_EQ(all.memory_bytes, fused.memory_bytes + 2 * 16 * expert);
  EXPECT_EQ(all.token_bytes, built.token_bytes);
  EXPECT_NEAR(all.token_operations, built.token_operations, 1e-6);
  const ExpertNeed half = cached(2 * 8 * expert);
  EXPECT_EQ(half.cached->built, 2 * 8);
  // But once in 16 times one of four experts is fused, which reads all bases.
  const double bases = 2 * 2 * (2 * 4 * 32 * 64);
  EXPECT_NEAR(static_cast<double>(half.token_bytes),
              static_cast<double>(built.token_bytes) / 2 +
                  (static_cast<double>(fused.token_bytes) - bases) / 2 +
                  bases * 15 / 16,
              1);
  EXPECT_NEAR(half.token_operations,
              (built.token_operations + fused.token_operations) / 2, 1e-6);
}

TEST(ExpertNeedsTest, TheSameWithoutTheWeights) {
  for (const char* name : {"qwen3_moe", "qwen3_mobe", "bailing_moe_mobe",
                           "deepseek_v2", "deepseek_v3", "kimi_k2_mobe"}) {
    const TemporaryFolder folder;
    std::filesystem::copy(TestModel(name) / "config.json", folder.path());
    const Outline with = ReadOutline(TestModel(name));
    Json index;
    for (const SizedTensor& tensor : with.tensors) {
      index["weight_map"][tensor.spec.name] =
          "model-00001-of-00001.safetensors";
    }
    WriteText(folder.path() / "model.safetensors.index.json", index.dump());
    const Outline without = ReadOutline(folder.path());
    EXPECT_FALSE(with.shards.empty()) << name;
    EXPECT_TRUE(without.shards.empty()) << name;
    EXPECT_EQ(without.bytes(), with.bytes()) << name;
    EXPECT_NEAR(without.operations.fused, with.operations.fused, 1e-6) << name;
  }
}

TEST(ExpertNeedsTest, TheLowerBoundCounts) {
  ExpertNeed need;
  need.token_bytes = 2'000'000;
  need.token_operations = 3e6;
  Peaks peaks = {20e9, {{"float32", 100e9}, {"bfloat16", 300e9}}};
  DecodeBound bound = BoundDecode(need, peaks, 1e9);
  EXPECT_EQ(bound.by_reading, 10'000);
  EXPECT_EQ(bound.by_arithmetic, 100'000);
  EXPECT_EQ(bound.least(), 10'000);
  need.token_operations = 1e8;
  bound = BoundDecode(need, peaks, 1e9);
  EXPECT_EQ(bound.least(), 3'000);
  EXPECT_FALSE(bound.by_disk.has_value());
  need.disk_bytes = 1'000'000;
  bound = BoundDecode(need, peaks, 1e9);
  EXPECT_EQ(bound.by_disk, 1'000);
  EXPECT_EQ(bound.least(), 1'000);
  EXPECT_FALSE(BoundDecode(need, peaks, 0).by_disk.has_value());
  EXPECT_THROW(peaks.Product("int4"), Error);
}

TEST(OutlineTest, RefusesWhatItCannotList) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "config.json";
  ExpectError(ErrorKind::kMissing, "config.json",
              [&] { ReadOutline(folder.path()); });
  Json config = ParseJson(ReadSmallFile(TestModel("qwen3_moe") / "config.json"),
                          "config.json");
  config["num_hidden_layers"] = 1 << 20;
  WriteText(path, config.dump());
  ExpectError(ErrorKind::kUnsupported, "more than any model has",
              [&] { ReadOutline(folder.path()); });
  config["num_hidden_layers"] = 3;
  config["torch_dtype"] = "int8";
  WriteText(path, config.dump());
  ExpectError(ErrorKind::kCorruptFile, "expected bfloat16, float16 or float32",
              [&] { ReadOutline(folder.path()); });
  WriteText(path, "[1]");
  ExpectError(ErrorKind::kCorruptFile, "expected an object",
              [&] { ReadOutline(folder.path()); });
}

}  // namespace
}  // namespace mobe
