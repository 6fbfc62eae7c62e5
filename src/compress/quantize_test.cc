#include "compress/quantize.h"

#include <gmock/gmock.h>

#include <cstring>
#include <fstream>

#include "compress/recipe.h"
#include "compress/reconstruct.h"
#include "compress/testing.h"
#include "compress/verify.h"
#include "io/fp8.h"

namespace mobe {
namespace {

constexpr auto kSilent = [](const ProgressEvent&) {};

std::optional<QuantizeReport> RunQuantize(
    const std::filesystem::path& model, const std::filesystem::path& out,
    const char* format, std::vector<const QuantPart*> parts = {},
    StopFn stop = nullptr) {
  return Quantize(OpenModel(model), out,
                  {{FormatFromName(format), std::move(parts)},
                   100'000'000,
                   std::move(stop)},
                  kSilent);
}

std::vector<float> FloatsOf(const OpenedModel& model, const TensorSpec& spec) {
  const TensorView& tensor = model.checkpoint.At(spec.name);
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  LoadFloats(tensor, values.data());
  return values;
}

// Of every fixture: what the parts name is near, all else the same, verify
// finds no fault, and the plain model that comes of it has the same numbers in
// BF16.
TEST(QuantizeTest, EveryFamily) {
  for (const char* name : {"qwen3_moe", "qwen3_mobe", "deepseek_v2",
                           "deepseek_v3_fp8", "bailing_moe", "kimi_k2_mobe"}) {
    SCOPED_TRACE(name);
    const std::filesystem::path from = Fixture("models") / name;
    const TempFolder out;
    const auto report = RunQuantize(from, out.path(), "int8");
    ASSERT_TRUE(report);
    EXPECT_LT(TotalOf(report->parts).loss.relative(), 0.01);
    EXPECT_LT(TotalOf(report->parts).worst_relative, 0.02);
    const OpenedModel before = OpenModel(from);
    const OpenedModel after = OpenModel(out.path());
    EXPECT_EQ(after.mobe.has_value(), before.mobe.has_value());
    for (const TensorSpec& spec : before.tensors) {
      const bool packed =
          after.checkpoint.At(spec.name).packed == &RowOf(NumberFormat::kInt8);
      EXPECT_EQ(packed, QuantPartOf(spec) != nullptr) << spec.name;
      const std::vector<float> a = FloatsOf(before, spec);
      const std::vector<float> b = FloatsOf(after, spec);
      double error = 0;
      double square = 0;
      for (size_t i = 0; i < a.size(); ++i) {
        square += a[i] * a[i];
        error += (a[i] - b[i]) * (a[i] - b[i]);
      }
      EXPECT_LE(error, packed ? 4e-4 * square : 0) << spec.name;
    }
    // An original with which to compare is a plain one.
    if (!before.mobe) {
      const VerifyReport verified = Verify(out.path(), before, kSilent);
      EXPECT_THAT(verified.faults, testing::IsEmpty());
    }
    const TempFolder plain;
    EXPECT_TRUE(Reconstruct(after, plain.path(), 100'000'000, kSilent));
    EXPECT_FALSE(OpenModel(plain.path()).mobe);
  }
}

TEST(QuantizeTest, PartsAndFormats) {
  const std::filesystem::path from = Fixture("models") / "qwen3_moe";
  const TempFolder all;
  RunQuantize(from, all.path(), "int4");
  const OpenedModel model = OpenModel(all.path());
  EXPECT_STREQ(model.At(Role::kEmbedding).packed->name, "int8");
  EXPECT_STREQ(model.At(Role::kQuery, 0).packed->name, "int4");
  EXPECT_EQ(model.checkpoint.config()["mobe"],
            (Json{{"version", 3}, {"packed", {"int4", "int8"}}}));

  const TempFolder down;
  RunQuantize(from, down.path(), "int4", {QuantPartFromName("down")});
  const TempFolder both;
  RunQuantize(down.path(), both.path(), "int8", {QuantPartFromName("a")});
  const OpenedModel mixed = OpenModel(both.path());
  EXPECT_STREQ(mixed.At(Role::kExpertDown, 1, 3).packed->name, "int4");
  EXPECT_STREQ(mixed.At(Role::kExpertUp, 1, 3).packed->name, "int8");
  EXPECT_EQ(mixed.At(Role::kQuery, 0).packed, nullptr);
  const TempFolder never;
  ExpectError(ErrorKind::kUserInput, "is int4 already",
              [&] { RunQuantize(down.path(), never.path(), "int8"); });
  ExpectError(ErrorKind::kUserInput, "no matrix left to quantise", [&] {
    RunQuantize(down.path(), never.path(), "int4", {QuantPartFromName("down")});
  });
}

// Stopped after any tensor, the same call goes on to the same bytes; then it is
// done.
TEST(QuantizeTest, GoesOn) {
  const std::filesystem::path from = Fixture("models") / "qwen3_mobe";
  const TempFolder whole;
  RunQuantize(from, whole.path(), "int4");
  const TempFolder out;
  int stops = 0;
  for (int patience = 20;; patience += 20) {
    int asked = 0;
    try {
      RunQuantize(from, out.path(), "int4", {},
                  [&] { return ++asked > patience; });
      break;
    } catch (const Stopped&) {
      ++stops;
    }
  }
  EXPECT_GT(stops, 2);
  ExpectSameFiles(whole.path(), out.path());
  EXPECT_FALSE(RunQuantize(from, out.path(), "int4"));
}

// In one go: what compress and quantize write one after the other, but for the
// recipe and the card, which tell how.
TEST(QuantizeTest, WithinCompress) {
  for (const char* name : {"qwen3_moe", "deepseek_v3_fp8"}) {
    for (const bool some : {false, true}) {
      SCOPED_TRACE(fmt::format("{} {}", name, some));
      const std::filesystem::path from = Fixture("models") / name;
      CompressOptions options = QuickOptions(2);
      options.kinds = {&kGateKind, &kDownKind};
      options.shard_bytes = 50'000;
      const TempFolder factored;
      RunCompress(from, options, factored.path());
      PackRule rule{FormatFromName("int4"), {}};
      if (some) {
        rule.parts = {QuantPartFromName("a"), QuantPartFromName("down")};
      }
      const TempFolder want;
      Quantize(OpenModel(factored.path()), want.path(),
               {rule, options.shard_bytes, nullptr}, kSilent);
      options.pack = rule;
      const TempFolder out;
      RunCompress(from, options, out.path());
      ExpectSameFiles(want.path(), out.path(), TellsHow);
      EXPECT_THAT(Verify(out.path(), OpenModel(from), kSilent).faults,
                  testing::IsEmpty());
      const auto recipe = ReadRecipe(out.path());
      const auto of_two = ReadRecipe(want.path());
      ASSERT_TRUE(recipe && of_two);
      EXPECT_FALSE(recipe->packed.empty());
      EXPECT_EQ(PackedPartsJson(recipe->packed),
                PackedPartsJson(of_two->packed));
    }
  }
}

TEST(QuantizeTest, WithinCompressRefusals) {
  const OpenedModel model = OpenModel(Fixture("models") / "qwen3_moe");
  CompressOptions options = QuickOptions(2);
  options.pack = PackRule{FormatFromName("int4"), {}};
  options.keep_fp8 = true;
  ExpectError(ErrorKind::kUserInput, "leave out one",
              [&] { PlanCompression(model, options); });
  options.keep_fp8 = false;
  options.pack->parts = {QuantPartFromName("head")};  // that of the embedding
  if (model.config.tie_embeddings) {
    ExpectError(ErrorKind::kUserInput, "no matrix to quantise",
                [&] { PlanCompression(model, options); });
  }
}

// A plane that is missing or has another shape names itself.
void CheckDamagedPlanes(const char* model, const std::string& codes) {
  const TempFolder out;
  RunQuantize(Fixture("models") / model, out.path(), "int8");
  const SafetensorsFile file(out.path() / "model.safetensors");
  const auto write = [&](const std::filesystem::path& folder, auto change) {
    std::vector<TensorDecl> decls;
    for (const TensorView& tensor : file.tensors()) {
      TensorDecl decl = tensor;
      if (change(&decl)) decls.push_back(decl);
    }
    SafetensorsWriter writer(folder / "model.safetensors", decls);
    for (const TensorDecl& decl : decls) {
      writer.Append(decl.name, file.At(decl.name).data);
    }
    writer.Commit();
    std::filesystem::copy(out.path() / "config.json", folder / "config.json");
  };
  const TempFolder without;
  write(without.path(),
        [&](TensorDecl* decl) { return decl->name != codes + ".scales"; });
  ExpectError(ErrorKind::kMissing, codes + ".scales\", are not",
              [&] { OpenModel(without.path()); });
  const TempFolder other;
  write(other.path(), [&](TensorDecl* decl) {
    if (decl->name == codes) std::swap(decl->shape[0], decl->shape[1]);
    return true;
  });
  ExpectError(ErrorKind::kCorruptFile, codes + "\" is U8 of shape",
              [&] { OpenModel(other.path()); });
}

TEST(QuantizeTest, DamagedPlanes) {
  CheckDamagedPlanes("qwen3_moe",
                     "model.layers.1.mlp.experts.2.up_proj.weight.int8");
  CheckDamagedPlanes("qwen3_mobe", "model.layers.1.mlp.B_up.int8");
}

}  // namespace
}  // namespace mobe
