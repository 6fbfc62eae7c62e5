#include "eval/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/sealed_json.h"
#include "compress/testing.h"
#include "eval/report_svg.h"

namespace mobe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr auto kNoProgress = [](const ProgressEvent&) {};

TEST(ReportTest, Escapes) {
  EXPECT_EQ(Escape("a<b>&\"c'"), "a&lt;b&gt;&amp;&quot;c&#39;");
  EXPECT_EQ(Escape("\u03b1\n\t"), "\u03b1\n\t");
  // A NUL, a control character, one of C1, a noncharacter, invalid UTF-8.
  EXPECT_EQ(Escape(std::string_view("\0\x1b\u0085\uffff\xff", 8)),
            "\ufffd\ufffd\ufffd\ufffd\ufffd");
}

TEST(ReportTest, HostileStringsStayText) {
  TempFolder out;
  RunCompress(SmallModel(), QuickOptions(4), out.path());
  Json recipe = ParseSealed(ReadSmallFile(out / "recipe.json"), "");
  const std::string evil = "</title><script>alert(1)</script>\"'&\x01";
  recipe["source"]["name"] = evil;
  recipe["mobe"] = evil;
  recipe["kernels"] = {evil};
  recipe["options"][evil] = evil;
  recipe["options"]["solver"] = {evil};
  recipe["matrices"][0]["matrix"] = evil;
  recipe["matrices"][0]["mse_scaled"] = 0;
  recipe["matrices"][0]["trace"]["mse_scaled"] = {0, 1e99};
  std::string name = evil;
  std::erase(name, '/');
  recipe["files"][name] = recipe["files"]["config.json"];
  WriteText(out / "recipe.json", RecipeText(recipe));
  ReportData data = GatherReport(OpenModel(out.path()), nullptr, kNoProgress);
  data.results = {{.task = evil,
                   .version = evil,
                   .form = evil,
                   .metric = evil,
                   .value = {0.25, 0.125}}};
  const std::string page = ReportPage(data);
  EXPECT_THAT(page, HasSubstr("<td>0.2500 ± 0.1250</td>"));
  EXPECT_THAT(page, Not(HasSubstr("<script")));
  EXPECT_THAT(page, Not(HasSubstr("\x01")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(1)"));
  EXPECT_THAT(page, Not(HasSubstr("nan")));
  EXPECT_THAT(page, Not(HasSubstr("inf ")));
}

// What the recipe would say is measured where there is none.
TEST(ReportTest, WithoutARecipe) {
  const OpenedModel model = OpenModel(Fixture("models/qwen3_mobe"));
  const ReportData alone = GatherReport(model, nullptr, kNoProgress);
  EXPECT_TRUE(alone.errors.empty());
  EXPECT_THAT(ReportPage(alone), HasSubstr("There is no recipe.json"));
  const OpenedModel original = OpenModel(SmallModel());
  const ReportData data = GatherReport(model, &original, kNoProgress);
  ASSERT_EQ(data.errors.size(), 4u);
  EXPECT_GT(data.errors[0].error.relative, 0);
  EXPECT_LT(data.errors[0].error.relative, 1);
  EXPECT_EQ(data.matrices[0].original.size(), 64u);
  EXPECT_EQ(data.matrices[0].bases.size(), 64u);
  EXPECT_GE(data.matrices[0].bases_used, 1);
  EXPECT_LE(data.matrices[0].bases_used, 4);
}

// Down, sparse alpha and bases stored as two factors: all that a report shows.
TEST(ReportTest, Variants) {
  TempFolder out;
  CompressOptions options = QuickOptions(4);
  options.kinds = {&kGateKind, &kDownKind};
  options.basis_rank = 3;
  options.max_alphas = 2;
  RunCompress(SmallModel(), options, out.path());
  const OpenedModel original = OpenModel(SmallModel());
  const ReportData data =
      GatherReport(OpenModel(out.path()), &original, kNoProgress);
  ASSERT_EQ(data.matrices.size(), 4u);
  for (const FactoredMatrix& matrix : data.matrices) {
    EXPECT_LE(matrix.bases_used, 2 + 1e-6);
    // 4 bases of rank 3 span no more than 12 dimensions.
    ASSERT_EQ(matrix.bases.size(), 64u);
    EXPECT_NEAR(matrix.bases[11], 1, 1e-5);
    EXPECT_LT(matrix.bases[2], 0.99);
  }
  EXPECT_THAT(ReportPage(data), HasSubstr("down"));
}

// The factors of a basis are looked at, too.
TEST(ReportTest, RefusesLowRankBasesThatAreNotFinite) {
  TempFolder out;
  CompressOptions options = QuickOptions(4);
  options.basis_rank = 3;
  RunCompress(SmallModel(), options, out.path());
  const std::string name =
      LeftName(*OpenModel(SmallModel()).family, 1, kGateKind);
  for (const auto& entry : std::filesystem::directory_iterator(out.path())) {
    if (entry.path().extension() != ".safetensors") continue;
    auto tensors = ReadTensors(entry.path());
    for (LooseTensor& tensor : tensors) {
      if (tensor.name != name) continue;
      const float bad = std::nanf("");
      StoreFloats(&bad, 1, tensor.dtype, tensor.data.data());
    }
    WriteTensors(entry.path(), tensors);
  }
  ExpectError(
      ErrorKind::kCorruptFile, name + " holds values that are not",
      [&] { GatherReport(OpenModel(out.path()), nullptr, kNoProgress); });
}

TEST(ReportTest, Refusals) {
  const OpenedModel plain = OpenModel(SmallModel());
  const OpenedModel model = OpenModel(Fixture("models/qwen3_mobe"));
  const OpenedModel other = OpenModel(TinyModel());
  ExpectError(ErrorKind::kUserInput, "neither a factored nor a quantised model",
              [&] { GatherReport(plain, nullptr, kNoProgress); });
  ExpectError(ErrorKind::kUserInput, "--original wants the original",
              [&] { GatherReport(model, &model, kNoProgress); });
  ExpectError(ErrorKind::kUserInput, "not the original of",
              [&] { GatherReport(model, &other, kNoProgress); });
}

}  // namespace
}  // namespace mobe
