// Every form of a factored model: compressed from the fixture in float32, it
// must give the logits of the dense model that is reconstructed from it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "compress/reconstruct.h"
#include "compress/testing.h"
#include "model/test_models.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTokens = 24;
const std::vector<const MatrixKind*> kAll = {&kGateKind, &kUpKind, &kDownKind};

struct Variant {
  const char* name;
  std::function<void(CompressOptions*)> set;
};
const Variant kVariants[] = {
    {"gate", [](auto* o) { o->kinds = {&kGateKind}; }},
    {"down", [](auto* o) { o->kinds = {&kDownKind}; }},
    {"all", [](auto* o) { o->kinds = kAll; }},
    {"rank", [](auto* o) { o->rank = 19; }},
    {"low_rank", [](auto* o) { o->basis_rank = 7; }},
    {"low_rank_down",
     [](auto* o) {
       o->kinds = {&kDownKind};
       o->basis_rank = 7;
       o->rank = 30;
     }},
    {"sparse", [](auto* o) { o->max_alphas = 2; }},
    {"everything",
     [](auto* o) {
       o->kinds = kAll;
       o->rank = 21;
       o->basis_rank = 5;
       o->max_alphas = 2;
       o->activation = Activation::kTanh;
     }},
    {"groups",
     [](auto* o) {
       o->kinds = kAll;
       o->groups = 2;
     }},
    {"groups_of_everything",
     [](auto* o) {
       o->kinds = kAll;
       o->rank = 30;
       o->basis_rank = 9;
       o->num_bases = 12;
       o->max_alphas = 2;
       o->groups = 4;
     }},
    {"identity",
     [](auto* o) {
       o->kinds = kAll;
       o->activation = Activation::kIdentity;
       o->basis_rank = 9;
       o->first_layer = 2;
     }},
};

// A copy of the fixture in another dtype, in one file.
void CopyAs(DType dtype, const fs::path& folder) {
  const Checkpoint from(SmallModel());
  std::vector<LooseTensor> tensors;
  for (const TensorView* view : from.tensors()) {
    std::vector<float> values(static_cast<size_t>(view->elements()));
    LoadAsFloats(view->dtype, view->data.data(), view->elements(),
                 values.data());
    LooseTensor& tensor =
        tensors.emplace_back(LooseTensor{{view->name, dtype, view->shape}, {}});
    tensor.data.resize(static_cast<size_t>(tensor.bytes()));
    StoreFloats(values.data(), view->elements(), dtype, tensor.data.data());
  }
  fs::create_directories(folder);
  WriteConfig(folder, from.config());
  WriteTensors(folder / "model.safetensors", tensors);
}

std::vector<float> LogitsOf(const fs::path& folder, const LoadOptions& options,
                            int64_t tokens = kTokens) {
  const Model model = Model::Load(folder, options);
  const auto ids = Golden<int32_t>("qwen3_moe", "input_ids");
  return RunModel(model, ids, tokens);
}

float LargestDifference(const std::vector<float>& a,
                        const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (!(std::abs(a[i] - b[i]) <= largest)) largest = std::abs(a[i] - b[i]);
  }
  return largest;
}

class VariantsTest : public testing::TestWithParam<Variant> {};

INSTANTIATE_TEST_SUITE_P(All, VariantsTest, testing::ValuesIn(kVariants),
                         [](const auto& variant) {
                           return variant.param.name;
                         });

TEST_P(VariantsTest, LogitsAreThoseOfTheDenseModel) {
  CompressOptions options = QuickOptions(4);
  options.budget = {20, 0};
  GetParam().set(&options);
  TempFolder folder;
  CopyAs(DType::kF32, folder / "original");
  RunCompress(folder / "original", options, folder / "small");
  Reconstruct(OpenModel(folder / "small"), folder / "dense", 1'000'000'000,
              [](const ProgressEvent&) {});
  const auto dense = LogitsOf(folder / "dense", {});
  EXPECT_GT(LargestDifference(dense, LogitsOf(folder / "original", {})), 0.01f);
  for (const ExpertMode mode : {ExpertMode::kBuilt, ExpertMode::kFused}) {
    const LoadOptions load{Precision::kFloat32, mode};
    EXPECT_LT(LargestDifference(LogitsOf(folder / "small", load), dense),
              1e-3f);
    // So few tokens that experts take one or two: products by vectors.
    const auto at_once = LogitsOf(folder / "dense", load, 3);
    EXPECT_LT(LargestDifference(LogitsOf(folder / "small", load, 3), at_once),
              1e-3f);
  }
}

// As they are stored in practice; the reconstructed experts are rounded.
TEST_P(VariantsTest, BFloat16StaysNear) {
  CompressOptions options = QuickOptions(4);
  options.budget = {20, 0};
  GetParam().set(&options);
  TempFolder folder;
  RunCompress(SmallModel(), options, folder / "small");
  const auto built =
      LogitsOf(folder / "small", {Precision::kFloat32, ExpertMode::kBuilt});
  EXPECT_LT(LargestDifference(LogitsOf(folder / "small", {Precision::kFloat32,
                                                          ExpertMode::kFused}),
                              built),
            1e-3f);
  const auto rounded =
      LogitsOf(folder / "small", {Precision::kBFloat16, ExpertMode::kFused});
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < built.size(); ++i) {
    error += std::pow(rounded[i] - built[i], 2);
    norm += std::pow(built[i], 2);
  }
  EXPECT_LT(std::sqrt(error / norm), 0.05);  // as in model_test.cc
  EXPECT_GT(error, 0);
}

// hidden 64, experts of 32, 4 of 16 for a token, bfloat16.
TEST(VariantsDecodeBytesTest, CountsFactors) {
  CompressOptions options = QuickOptions(4);
  TempFolder folder;
  RunCompress(SmallModel(), options, folder / "two");
  options.kinds = kAll;
  options.rank = 20;
  options.basis_rank = 5;
  RunCompress(SmallModel(), options, folder / "all");
  const auto bytes = [&](const char* name) {
    const Model model =
        Model::Load(folder / name, {Precision::kFloat32, ExpertMode::kFused});
    return model.DecodeBytes();
  };
  const int64_t two = 4 * (2 * 32 * 32 + 64 * 32) + 2 * 4 * 32 * 64;
  const int64_t all = 4 * 3 * 32 * 20 + 3 * 4 * 5 * (20 + 64);
  EXPECT_EQ(bytes("two") - bytes("all"), 2 * 2 * (two - all));
  CompressOptions grouped = QuickOptions(4);
  grouped.groups = 2;
  RunCompress(SmallModel(), grouped, folder / "groups");
  EXPECT_EQ(bytes("groups"), bytes("two"));
}

// As the reference writes Kimi-K2, told by the names alone. Each group has the
// bases of all, so that the golden logits hold.
TEST(VariantsGroupsTest, TheReferencesFormGivesTheGoldenLogits) {
  TempFolder folder;
  Json config = ReadConfig(TestModel("qwen3_mobe"));
  auto tensors = ReadTensors(TestModel("qwen3_mobe") / "model.safetensors");
  SplitIntoTwoGroups(&config, &tensors);
  WriteConfig(folder.path(), config);
  WriteTensors(folder / "model.safetensors", tensors);
  EXPECT_EQ(OpenModel(folder.path()).mobe->factors,
            Shapes({1, 2}, {&kGateKind, &kUpKind}, 8, 32, 0, 2));
  const auto golden = Golden<float>("qwen3_mobe", "logits");
  const auto ids = Golden<int32_t>("qwen3_mobe", "input_ids");
  for (const ExpertMode mode : {ExpertMode::kBuilt, ExpertMode::kFused}) {
    const Model model = Model::Load(folder.path(), {Precision::kFloat32, mode});
    EXPECT_LT(LargestDifference(RunModel(model, ids, kTokens), golden), 1e-3f);
  }
}

TEST_P(VariantsTest, ThreadsDoNotChangeABit) {
  CompressOptions options = QuickOptions(4);
  GetParam().set(&options);
  TempFolder folder;
  RunCompress(SmallModel(), options, folder / "small");
  for (const ExpertMode mode : {ExpertMode::kBuilt, ExpertMode::kFused}) {
    const auto run = [&](int threads) {
      SetThreads(threads);
      return LogitsOf(folder / "small", {Precision::kFloat32, mode});
    };
    const std::vector<float> one = run(1);
    EXPECT_EQ(run(3), one);
    SetThreads(0);
  }
}

}  // namespace
}  // namespace mobe
