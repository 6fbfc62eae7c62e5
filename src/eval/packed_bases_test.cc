// Bases in 8 bits: factored models whose bases alone are quantised, against the
// same in float32, in every way of running experts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "compress/quantize.h"
#include "compress/testing.h"
#include "compress/verify.h"
#include "model/test_models.h"

namespace mobe::packed_bases_test {
namespace {

namespace fs = std::filesystem;

constexpr auto kQuiet = [](const ProgressEvent&) {};
constexpr int64_t kTokens = 24;

std::vector<int32_t> InputIds() {
  return Golden<int32_t>("qwen3_moe", "input_ids");
}

std::vector<float> LogitsOf(const fs::path& folder, ExpertMode mode) {
  LoadOptions options;
  options.experts = mode;
  return RunModel(Model::Load(folder, options), InputIds(), kTokens);
}

// Norm of the difference over that of `b`.
double DistanceTo(const std::vector<float>& b, const std::vector<float>& a) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return std::sqrt(error / norm);
}

void QuantizeBases(const fs::path& from, const fs::path& to) {
  const auto report = Quantize(
      OpenModel(from), to,
      {{FormatFromName("int4"), {QuantPartFromName("bases")}}, 100'000'000, {}},
      kQuiet);
  ASSERT_TRUE(report);
  const PackedPart total = TotalOf(report->parts);
  EXPECT_GT(total.loss.relative(), 0);
  EXPECT_LT(total.worst_relative, 0.01);
}

// Rounding the bases moves the logits a little, as it does those of the same
// model with its experts built; rounding alphas to 15 bits hardly at all.
void CheckLogits(const fs::path& exact) {
  const TempFolder packed;
  QuantizeBases(exact, packed.path());
  const std::vector<float> before = LogitsOf(exact, ExpertMode::kFused);
  const std::vector<float> fused = LogitsOf(packed.path(), ExpertMode::kFused);
  const std::vector<float> built = LogitsOf(packed.path(), ExpertMode::kBuilt);
  const double moved = DistanceTo(before, fused);
  EXPECT_GT(moved, 1e-6);
  EXPECT_LT(moved, 0.05);
  EXPECT_LT(DistanceTo(fused, built), 1e-3);
  EXPECT_EQ(LogitsOf(packed.path(), ExpertMode::kStreamed), fused);
}

TEST(PackedBasesRunTest, Fixtures) {
  for (const char* name : {"qwen3_mobe", "kimi_k2_mobe", "deepseek_v3_mobe"}) {
    SCOPED_TRACE(name);
    CheckLogits(TestModel(name));
  }
}

TEST(PackedBasesRunTest, EveryKindInGroupsWithSparseAlpha) {
  CompressOptions options = QuickOptions(6);
  options.kinds = {&kGateKind, &kUpKind, &kDownKind};
  options.groups = 2;
  options.max_alphas = 2;
  const TempFolder folder;
  RunCompress(TestModel("qwen3_moe"), options, folder.path());
  CheckLogits(folder.path());
  const TempFolder all;
  Quantize(OpenModel(folder.path()), all.path(),
           {{FormatFromName("int4"), {}}, 100'000'000, {}}, kQuiet);
  const OpenedModel model = OpenModel(all.path());
  EXPECT_STREQ(model.At(Role::kDownBases, 1, 1).packed->name, "int8");
  EXPECT_STREQ(model.At(Role::kExpertDown, 1, 1).packed->name, "int4");
  const OpenedModel original = OpenModel(TestModel("qwen3_moe"));
  EXPECT_THAT(Verify(all.path(), original, kQuiet).faults, testing::IsEmpty());
}

TEST(PackedBasesRunTest, LowRankBasesStay) {
  CompressOptions options = QuickOptions(4);
  options.basis_rank = 5;
  const TempFolder folder;
  RunCompress(TestModel("qwen3_moe"), options, folder.path());
  const TempFolder out;
  ExpectError(ErrorKind::kUserInput, "no matrix left to quantise", [&] {
    Quantize(
        OpenModel(folder.path()), out.path(),
        {{FormatFromName("int8"), {QuantPartFromName("bases")}}, 1 << 20, {}},
        kQuiet);
  });
}

}  // namespace
}  // namespace mobe::packed_bases_test
