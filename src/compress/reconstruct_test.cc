#include "compress/reconstruct.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "compress/testing.h"
#include "compress/verify.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

constexpr auto kNoProgress = [](const ProgressEvent&) {};

void RunReconstruct(const fs::path& model, const fs::path& out,
                    int64_t shard_bytes = 1'000'000'000) {
  Reconstruct(OpenModel(model), out, shard_bytes, kNoProgress);
}

// Frobenius norm of the difference over that of `b`.
double RelativeDifference(const TensorView& a, const TensorView& b) {
  double error = 0;
  double norm = 0;
  for (int64_t i = 0; i < a.elements(); ++i) {
    const double x = LoadAsFloat(a.dtype, a.data.data(), i);
    const double y = LoadAsFloat(b.dtype, b.data.data(), i);
    error += (x - y) * (x - y);
    norm += y * y;
  }
  return std::sqrt(error / norm);
}

// The reference reconstructs from float32 factors, we from the stored bfloat16:
// at most 0.57 % apart in float32 (measured by the reference's classes); each
// side's result is then rounded to bfloat16, which adds 0.17 % twice.
TEST(ReconstructTest, EqualsTheReference) {
  TempFolder out;
  RunReconstruct(Fixture("models/qwen3_mobe"), out.path());
  const OpenedModel ours = OpenModel(out.path());
  const OpenedModel theirs =
      OpenModel(Fixture("models/qwen3_mobe_reconstructed"));
  EXPECT_FALSE(ours.mobe);
  EXPECT_EQ(ours.checkpoint.tensors().size(),
            theirs.checkpoint.tensors().size());
  int rebuilt = 0;
  for (const TensorSpec& spec : theirs.tensors) {
    const TensorView& a = ours.checkpoint.At(spec.name);
    const TensorView& b = theirs.checkpoint.At(spec.name);
    EXPECT_EQ(a.dtype, b.dtype) << spec.name;
    if (spec.role == Role::kExpertGate || spec.role == Role::kExpertUp) {
      EXPECT_LE(RelativeDifference(a, b), 0.0065) << spec.name;
      ++rebuilt;
    } else {
      EXPECT_TRUE(std::ranges::equal(a.data, b.data)) << spec.name;
    }
  }
  EXPECT_EQ(rebuilt, 2 * 2 * 16);
}

TEST(ReconstructTest, ConfigAndSideFiles) {
  const fs::path model = Fixture("models/qwen3_mobe");
  TempFolder out;
  RunReconstruct(model, out.path());
  Json expected = ReadConfig(model);
  EXPECT_EQ(expected.erase("num_B"), 1u);
  EXPECT_EQ(expected.erase("activation"), 1u);
  EXPECT_EQ(ReadConfig(out.path()), expected);
  EXPECT_EQ(ReadSmallFile(out / "tokenizer.json"),
            ReadSmallFile(model / "tokenizer.json"));
}

TEST(ReconstructTest, ShardsHoldTheSameTensors) {
  TempFolder whole;
  TempFolder split;
  RunReconstruct(Fixture("models/qwen3_mobe"), whole.path());
  RunReconstruct(Fixture("models/qwen3_mobe"), split.path(), 50'000);
  const Checkpoint a(whole.path());
  const Checkpoint b(split.path());
  EXPECT_TRUE(fs::exists(split / "model.safetensors.index.json"));
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (const TensorView* tensor : a.tensors()) {
    EXPECT_TRUE(std::ranges::equal(tensor->data, b.At(tensor->name).data))
        << tensor->name;
  }
}

// Our own forms, which the reference can't say, come back too.
TEST(ReconstructTest, WhatWeCompressed) {
  const std::pair<Activation, int64_t> cases[] = {{Activation::kIdentity, 0},
                                                  {Activation::kTanh, 2}};
  for (const auto& [activation, first_layer] : cases) {
    SCOPED_TRACE(ActivationName(activation));
    CompressOptions options = QuickOptions(4);
    options.activation = activation;
    options.first_layer = first_layer;
    TempFolder folder;
    const CompressReport report =
        RunCompress(SmallModel(), options, folder / "small");
    RunReconstruct(folder / "small", folder / "plain");
    EXPECT_EQ(ReadConfig(folder / "plain"), ReadConfig(SmallModel()));
    const VerifyReport verified =
        Verify(folder / "plain", OpenModel(SmallModel()), kNoProgress);
    EXPECT_THAT(verified.faults, ::testing::IsEmpty());
    ASSERT_EQ(verified.matrices.size(), report.matrices.size());
    for (size_t i = 0; i < report.matrices.size(); ++i) {
      EXPECT_EQ(verified.matrices[i].layer, report.matrices[i].layer);
      // The product is rounded once more.
      EXPECT_NEAR(verified.matrices[i].error.relative,
                  report.matrices[i].error.relative, 0.003);
    }
  }
}

TEST(ReconstructTest, EveryKindAndForm) {
  CompressOptions options = QuickOptions(4);
  options.kinds = {&kGateKind, &kUpKind, &kDownKind};
  options.rank = 25;
  options.basis_rank = 9;
  options.max_alphas = 3;
  options.budget = {20, 0};
  TempFolder folder;
  const CompressReport report =
      RunCompress(SmallModel(), options, folder / "small");
  RunReconstruct(folder / "small", folder / "plain");
  const VerifyReport verified =
      Verify(folder / "plain", OpenModel(SmallModel()), kNoProgress);
  EXPECT_THAT(verified.faults, ::testing::IsEmpty());
  ASSERT_EQ(verified.matrices.size(), 6u);
  for (size_t i = 0; i < report.matrices.size(); ++i) {
    EXPECT_EQ(verified.matrices[i].kind, report.matrices[i].kind);
    EXPECT_NEAR(verified.matrices[i].error.relative,
                report.matrices[i].error.relative, 0.003);
  }
}

// Interrupted after any tensor, and with any file damaged, it continues to the
// same bytes.
TEST(ReconstructTest, ContinuesToTheSameBytes) {
  TempFolder folder;
  const fs::path source = Fixture("models/qwen3_mobe");
  const OpenedModel model = OpenModel(source);
  constexpr int64_t kShard = 200'000;
  RunReconstruct(source, folder / "whole", kShard);
  const auto expected = Contents(folder / "whole");
  const fs::path out = folder / "out";
  const auto is_shard = [](const auto& file) {
    return file.first.starts_with("model-00001");
  };
  const std::string expected_first =
      std::ranges::find_if(expected, is_shard)->first;
  int runs = 0;
  for (bool done = false; !done; ++runs) {
    ASSERT_LT(runs, 20);
    int left = 20 * (runs + 1);
    try {
      Reconstruct(model, out, kShard, kNoProgress, [&] { return --left < 0; });
      done = true;
    } catch (const Stopped&) {
      EXPECT_FALSE(fs::exists(out / "config.json"));
      const fs::path first = out / expected_first;
      EXPECT_TRUE(runs != 4 || fs::exists(first));
      if (fs::exists(first)) WriteText(first, "x");
    }
  }
  EXPECT_GT(runs, 3);
  EXPECT_EQ(Contents(out), expected);
  // Finished, it is left as it is; by another command it is refused.
  EXPECT_FALSE(Reconstruct(model, out, kShard, kNoProgress));
  EXPECT_EQ(Contents(out), expected);
  ExpectError(ErrorKind::kUserInput,
              "made with another option (shard_bytes: 200000, now 200001)",
              [&] { RunReconstruct(source, out, kShard + 1); });
  EXPECT_EQ(*VerifyFiles(out).files_checked,
            static_cast<int64_t>(expected.size()) - 1);
}

TEST(ReconstructTest, Refusals) {
  TempFolder out;
  ExpectError(ErrorKind::kUserInput,
              "neither a factored nor a quantised model, nothing to do",
              [&] { RunReconstruct(SmallModel(), out.path()); });
  WriteText(out / "mine.txt", "");
  ExpectError(
      ErrorKind::kUserInput, "the output folder already holds mine.txt",
      [&] { RunReconstruct(Fixture("models/qwen3_mobe"), out.path()); });
}

}  // namespace
}  // namespace mobe
