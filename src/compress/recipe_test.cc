#include "compress/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/hash.h"
#include "base/sealed_json.h"
#include "compress/model_card.h"
#include "compress/testing.h"

namespace mobe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(RecipeTest, SaysWhatCompressDid) {
  TempFolder out;
  CompressOptions options = QuickOptions(4);
  options.shard_bytes = 150'000;
  const CompressReport report = RunCompress(SmallModel(), options, out.path());
  const Recipe recipe = *ReadRecipe(out.path());
  EXPECT_EQ(recipe.source, "qwen3_moe");
  EXPECT_EQ(recipe.options.at("num_B"), 4);
  ASSERT_EQ(recipe.matrices.size(), report.matrices.size());
  for (size_t i = 0; i < report.matrices.size(); ++i) {
    EXPECT_EQ(recipe.matrices[i].layer, report.matrices[i].layer);
    EXPECT_EQ(recipe.matrices[i].kind, report.matrices[i].kind);
    EXPECT_EQ(recipe.matrices[i].error.scaled_mse,
              report.matrices[i].error.scaled_mse);
    EXPECT_EQ(recipe.matrices[i].trace.size(), 2u);
  }
  EXPECT_NEAR(recipe.mean_mse_scaled(), report.mse_scaled_mean, 1e-12);
  const OpenedModel model = OpenModel(out.path());
  EXPECT_EQ(recipe.bytes_out, model.checkpoint.bytes());
  EXPECT_EQ(recipe.parameters_out.total(),
            CountParts(model, model.tensors).total());
  EXPECT_EQ(recipe.tensors.size(), 2u * 2 * (2 + 16));
  // All files but itself, none of them elsewhere.
  size_t files = 0;
  for (const auto& [name, text] : Contents(out.path())) {
    if (name == "recipe.json") continue;
    ++files;
    EXPECT_EQ(recipe.files.at(name).bytes, static_cast<int64_t>(text.size()));
    EXPECT_EQ(recipe.files.at(name).sha256, HashFile(out / name));
  }
  EXPECT_EQ(recipe.files.size(), files);
  EXPECT_THAT(ReadSmallFile(out / "recipe.json"),
              Not(HasSubstr(SmallModel().parent_path().string())));
}

TEST(RecipeTest, TextIsTheRecipe) {
  TempFolder out;
  RunCompress(TinyModel(), QuickOptions(2), out.path());
  const std::string text = ReadSmallFile(out / "recipe.json");
  EXPECT_EQ(RecipeText(ParseSealed(text, "")), text);
}

TEST(RecipeTest, TracesAreShortAndEndAtTheLastPass) {
  for (const int64_t passes : {1, 2, 77, 500, 10'000, 1'000'000}) {
    int64_t count = 0;
    for (int64_t pass = 1; pass <= passes; ++pass) {
      count += IsTraced(pass, passes) ? 1 : 0;
    }
    EXPECT_TRUE(IsTraced(1, passes));
    EXPECT_TRUE(IsTraced(passes, passes));
    EXPECT_GE(count, std::min<int64_t>(passes, 40));
    EXPECT_LE(count, 110);
  }
}

TEST(RecipeTest, Damage) {
  TempFolder out;
  RunCompress(TinyModel(), QuickOptions(2), out.path());
  const std::string text = ReadSmallFile(out / "recipe.json");
  const Json sound = ParseSealed(text, "");
  const std::pair<const char*, void (*)(Json&)> cases[] = {
      {"no \"kernels\" in it", [](Json& r) { r.erase("kernels"); }},
      {"\"kernels\" is 3, expected a list", [](Json& r) { r["kernels"] = 3; }},
      {"\"matrices[0].layer\" is -1, expected an integer, 0 or more",
       [](Json& r) { r["matrices"][0]["layer"] = -1; }},
      {"\"matrices[1].relative\" is \"x\", expected a number",
       [](Json& r) { r["matrices"][1]["relative"] = "x"; }},
      {"\"matrices[0].trace.passes[1]\" is 1, expected an integer, 2 or more",
       [](Json& r) {
         r["matrices"][0]["trace"]["passes"] = {1, 1};
       }},
      {"\"matrices[0].trace.mse_scaled\" is [], expected as many numbers",
       [](Json& r) {
         r["matrices"][0]["trace"]["mse_scaled"] = Json::array();
       }},
      {"expected the name of a file in the folder",
       [](Json& r) { r["files"]["../x"] = r["files"]["config.json"]; }},
      {"expected 64 hexadecimal digits",
       [](Json& r) { r["files"]["config.json"]["sha256"] = "abc"; }},
      {"\"options\" is [], expected an object",
       [](Json& r) { r["options"] = Json::array(); }},
      {"\"sizes.parameters_in.experts\" is 1.5, expected an integer",
       [](Json& r) { r["sizes"]["parameters_in"]["experts"] = 1.5; }},
      {"\"sizes.bytes_in\" is 18446744073709551615, expected an integer",
       [](Json& r) { r["sizes"]["bytes_in"] = UINT64_MAX; }},
  };
  for (const auto& [message, damage] : cases) {
    Json recipe = sound;
    damage(recipe);
    ExpectError(ErrorKind::kCorruptFile, message,
                [&] { ParseRecipe(recipe, "r"); });
  }
  for (const Json& json : {Json(), Json(1), Json::array()}) {
    ExpectError(ErrorKind::kCorruptFile, "expected an object",
                [&] { ParseRecipe(json, "r"); });
  }
  Json later = sound;
  later["recipe_version"] = 3;
  ExpectError(ErrorKind::kUnsupported, "recipe version 3, this mobe knows 1 to",
              [&] { ParseRecipe(later, "r"); });
  // The first version had no checksum; the second can't be read without.
  std::string unsealed = sound.dump();
  ExpectError(ErrorKind::kCorruptFile, "r: damaged recipe: its checksum",
              [&] { ParseRecipeText(unsealed, "r"); });
  later["recipe_version"] = 1;
  EXPECT_EQ(ParseRecipeText(later.dump(), "r").files.size(),
            sound["files"].size());
  std::string changed = text;
  changed[text.find("\"num_B\": 2") + 9] = '3';
  ExpectError(ErrorKind::kCorruptFile, "r: damaged, or changed",
              [&] { ParseRecipeText(changed, "r"); });
}

TEST(RecipeTest, PublicNames) {
  EXPECT_EQ(PublicName("/a/b/model"), "model");
  EXPECT_EQ(PublicName("/a/b/model/"), "model");
  EXPECT_EQ(PublicName("/a/b/model/."), "model");
  EXPECT_EQ(PublicName("/c/models--Qwen--Qwen3-30B/snapshots/0123"),
            "Qwen/Qwen3-30B");
  EXPECT_EQ(PublicName("/a/b\n\xff"), "b_\xef\xbf\xbd");
}

TEST(ModelCardTest, TakesPlainLicencesOnly) {
  Recipe recipe;
  recipe.source = "a\"\n: `x`<b>";
  const auto card = [&](const std::string& original) {
    return ModelCard(recipe, original);
  };
  EXPECT_THAT(card("---\ntags: x\nlicense: apache-2.0\n---\n"),
              HasSubstr("\nlicense: \"apache-2.0\"\n---\n"));
  EXPECT_THAT(card("---\nlicense: 'mit' \r\n---\r\n"),
              HasSubstr("\nlicense: \"mit\"\n---\n"));
  for (const char* original :
       {"", "license: mit\n", "---\n---\nlicense: mit\n",
        "---\nlicense: [mit]\n---\n", "---\nlicense: a\"b\n---\n",
        "---\nx:\n  license: mit\n---\n"}) {
    EXPECT_THAT(card(original), Not(HasSubstr("\nlicense:"))) << original;
  }
  EXPECT_THAT(card(""), HasSubstr("base_model: \"a\\\"\\n: `x`<b>\"\n"));
  EXPECT_THAT(card(""), Not(HasSubstr("\n# a\"\n: `x`<b>")));
}

TEST(ModelCardTest, TheOriginalsCardIsKept) {
  TempFolder folder;
  CopyModel(TinyModel(), folder / "model");
  WriteText(folder / "model/README.md", "---\nlicense: mit\n---\nmine\n");
  RunCompress(folder / "model", QuickOptions(2), folder / "out");
  EXPECT_EQ(ReadSmallFile(folder / "out/README.original.md"),
            ReadSmallFile(folder / "model/README.md"));
  EXPECT_THAT(ReadSmallFile(folder / "out/README.md"),
              HasSubstr("license: \"mit\"\n"));
}

}  // namespace
}  // namespace mobe
