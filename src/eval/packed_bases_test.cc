// Bases in few bits: factored models whose bases alone are quantised, against
// the same in float32, in every way of running experts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compress/quantize.h"
#include "compress/reconstruct.h"
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

void QuantizeBases(const fs::path& from, const fs::path& to,
                   const char* format = "int8") {
  const auto report = Quantize(
      OpenModel(from), to,
      {{FormatFromName(format), {QuantPartFromName("bases")}}, 100'000'000, {}},
      kQuiet);
  ASSERT_TRUE(report);
  const PackedPart total = TotalOf(report->parts);
  EXPECT_GT(total.loss.relative(), 0);
  // Of 8 bits with a scale for 256 columns; else half a step of about 2.5
  // deviations over the largest code.
  const FormatRow& row = *FormatFromName(format);
  EXPECT_LT(total.worst_relative, row.bits == 8 ? 0.01 : 2.5 / row.most());
}

// Rounding the bases moves the logits a little, as it does those of the same
// model with its experts built; rounding alphas to 15 bits hardly at all.
void CheckLogits(const fs::path& exact) {
  const TempFolder packed;
  QuantizeBases(exact, packed.path());
  const std::vector<float> before = LogitsOf(exact, ExpertMode::kFused);
  const std::vector<float> fused = LogitsOf(packed.path(), ExpertMode::kFused);
  const std::vector<float> built = LogitsOf(packed.path(), ExpertMode::kBuilt);
  const double moved = RelativeDistance(fused, before);
  EXPECT_GT(moved, 1e-6);
  EXPECT_LT(moved, 0.05);
  EXPECT_LT(RelativeDistance(built, fused), 1e-3);
  EXPECT_EQ(LogitsOf(packed.path(), ExpertMode::kStreamed), fused);
}

TEST(PackedBasesRunTest, Fixtures) {
  for (const char* name : {"qwen3_mobe", "kimi_k2_mobe", "deepseek_v3_mobe"}) {
    SCOPED_TRACE(name);
    CheckLogits(TestModel(name));
  }
}

// Of fewer bits: as what they stand for, in all modes. They run in 8 bits,
// which moves the logits as it does those of exact bases.
TEST(PackedBasesRunTest, OfFewBits) {
  for (const char* name : {"qwen3_mobe", "kimi_k2_mobe", "deepseek_v3_mobe"}) {
    SCOPED_TRACE(name);
    for (const char* format : {"int3", "int6"}) {
      const TempFolder packed;
      QuantizeBases(TestModel(name), packed.path(), format);
      const TempFolder plain;
      Reconstruct(OpenModel(packed.path()), plain.path(), 100'000'000, kQuiet);
      const std::vector<float> want =
          LogitsOf(plain.path(), ExpertMode::kBuilt);
      for (const ExpertMode mode : {ExpertMode::kFused, ExpertMode::kBuilt}) {
        EXPECT_LT(RelativeDistance(LogitsOf(packed.path(), mode), want), 0.05);
      }
    }
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
  const TempFolder mixed;
  const auto part = [](const char* name) { return QuantPartFromName(name); };
  Quantize(OpenModel(folder.path()), mixed.path(),
           {{FormatFromName("int4"),
             {part("a")},
             {{part("bases"), FormatFromName("int5")},
              {part("down"), FormatFromName("int6")}}},
            100'000'000,
            {}},
           kQuiet);
  const OpenedModel three = OpenModel(mixed.path());
  EXPECT_STREQ(three.At(Role::kExpertUp, 1, 1).packed->name, "int4");
  EXPECT_STREQ(three.At(Role::kUpBases, 1, 1).packed->name, "int5");
  EXPECT_STREQ(three.At(Role::kExpertDown, 1, 1).packed->name, "int6");
  EXPECT_EQ(three.At(Role::kQuery, 1).packed, nullptr);
  const OpenedModel original = OpenModel(TestModel("qwen3_moe"));
  EXPECT_THAT(Verify(mixed.path(), original, kQuiet).faults,
              testing::IsEmpty());
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
