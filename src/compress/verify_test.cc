#include "compress/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>

#include "compress/testing.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

VerifyReport RunVerify(const fs::path& folder) {
  return Verify(folder, OpenModel(SmallModel()), [](const ProgressEvent&) {});
}

// Layer 2 factored, layer 1 plain, all in one file.
CompressOptions OneLayer() {
  CompressOptions options = QuickOptions(4);
  options.first_layer = 2;
  options.last_layer = 2;
  return options;
}

void SetNan(LooseTensor* tensor, int64_t element) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const int64_t size = DTypeSize(tensor->dtype);
  StoreFloats(&nan, 1, tensor->dtype, tensor->data.data() + element * size);
}

TEST(VerifyTest, SoundModels) {
  TempFolder folder;
  RunCompress(SmallModel(), OneLayer(), folder / "one");
  const VerifyReport one = RunVerify(folder / "one");
  EXPECT_THAT(one.faults, IsEmpty());
  EXPECT_GT(one.files_checked, 2);
  ASSERT_EQ(one.matrices.size(), 2u);
  EXPECT_EQ(one.matrices[0].layer, 2);
  EXPECT_EQ(one.matrices[0].kind, "gate");
  EXPECT_EQ(one.matrices[1].kind, "up");
  const int64_t tensors =
      static_cast<int64_t>(OpenModel(SmallModel()).checkpoint.tensors().size());
  EXPECT_EQ(one.tensors_equal, tensors - 2 * 16);

  CompressOptions options = QuickOptions(4);
  options.activation = Activation::kIdentity;
  options.shard_bytes = 100'000;
  const CompressReport report =
      RunCompress(SmallModel(), options, folder / "all");
  const VerifyReport all = RunVerify(folder / "all");
  EXPECT_THAT(all.faults, IsEmpty());
  ASSERT_EQ(all.matrices.size(), 4u);
  for (size_t i = 0; i < all.matrices.size(); ++i) {
    EXPECT_EQ(all.matrices[i].error.relative,
              report.matrices[i].error.relative);
  }

  // A plain copy has nothing to measure.
  const VerifyReport copy = RunVerify(SmallModel());
  EXPECT_THAT(copy.faults, IsEmpty());
  EXPECT_THAT(copy.matrices, IsEmpty());
  EXPECT_FALSE(copy.files_checked);
}

TEST(VerifyTest, EachKindOfDamage) {
  using Tensors = std::vector<LooseTensor>;
  struct Case {
    const char* fault;
    std::function<void(Tensors&, Json&)> damage;
  };
  const Case cases[] = {
      {"tensor model.layers.0.mlp.up_proj.weight differs from the original",
       [](Tensors& t, Json&) {
         TensorOf(t, "model.layers.0.mlp.up_proj.weight").data[9] ^=
             std::byte{1};
       }},
      {"tensor model.layers.2.mlp.experts.3.down_proj.weight differs",
       [](Tensors& t, Json&) {
         TensorOf(t, "model.layers.2.mlp.experts.3.down_proj.weight").data[0] ^=
             std::byte{128};
       }},
      // Of a layer that is not factored.
      {"tensor model.layers.1.mlp.experts.7.gate_proj.weight differs",
       [](Tensors& t, Json&) {
         TensorOf(t, "model.layers.1.mlp.experts.7.gate_proj.weight").data[2] ^=
             std::byte{1};
       }},
      {"no tensor model.norm.weight, expected one of shape [64]",
       [](Tensors& t, Json&) {
         std::erase_if(t,
                       [](auto& x) { return x.name == "model.norm.weight"; });
       }},
      {"no tensor model.layers.2.mlp.W_up, expected one of shape [16, 4]",
       [](Tensors& t, Json&) {
         std::erase_if(
             t, [](auto& x) { return x.name == "model.layers.2.mlp.W_up"; });
       }},
      {"tensor model.layers.2.mlp.W_gate has shape [4, 16], expected [16, 4]",
       [](Tensors& t, Json&) {
         TensorOf(t, "model.layers.2.mlp.W_gate").shape = {4, 16};
       }},
      {"tensor lm_head.weight has shape [64, 512], expected [512, 64]",
       [](Tensors& t, Json&) {
         TensorOf(t, "lm_head.weight").shape = {64, 512};
       }},
      {"tensor model.layers.2.mlp.B_up has dtype F16, expected BF16",
       [](Tensors& t, Json&) {
         TensorOf(t, "model.layers.2.mlp.B_up").dtype = DType::kF16;
       }},
      {"relative error nan against the original, expected below 1",
       [](Tensors& t, Json&) {
         SetNan(&TensorOf(t, "model.layers.2.mlp.B_gate"), 100);
       }},
      // Not the last expert: it is seen whatever comes after it.
      {"tensor model.layers.2.mlp.experts.0.up_proj.weight: relative error nan",
       [](Tensors& t, Json&) {
         SetNan(&TensorOf(t, "model.layers.2.mlp.experts.0.up_proj.weight"), 5);
       }},
      {"tensor model.layers.2.mlp.experts.5.gate_proj.weight: relative error "
       "1.0000 against the original",
       [](Tensors& t, Json&) {
         auto& data =
             TensorOf(t, "model.layers.2.mlp.experts.5.gate_proj.weight").data;
         std::fill(data.begin(), data.end(), std::byte{0});
       }},
      {"config.json: \"rope_theta\" is 5.0, expected 1000000.0 as in",
       [](Tensors&, Json& config) { config["rope_theta"] = 5.0; }},
      {"config.json: \"num_experts_per_tok\" is null, expected 4",
       [](Tensors&, Json& config) { config.erase("num_experts_per_tok"); }},
      {"config.json: \"sliding\" is 1, expected null",
       [](Tensors&, Json& config) { config["sliding"] = 1; }},
      {"tensor model.layers.2.extra is not expected",
       [](Tensors& t, Json&) {
         t.push_back({{"model.layers.2.extra", DType::kU8, {1}},
                      std::vector<std::byte>(1)});
       }},
  };
  TempFolder folder;
  RunCompress(SmallModel(), OneLayer(), folder / "sound");
  CopyModel(folder / "sound", folder / "bad");
  fs::remove(folder / "bad/recipe.json");  // it would find most of it, too
  for (const Case& c : cases) {
    SCOPED_TRACE(c.fault);
    auto tensors = ReadTensors(folder / "sound/model.safetensors");
    Json config = ReadConfig(folder / "sound");
    c.damage(tensors, config);
    WriteTensors(folder / "bad/model.safetensors", tensors);
    WriteConfig(folder / "bad", config);
    const VerifyReport report = RunVerify(folder / "bad");
    EXPECT_THAT(report.faults, ElementsAre(HasSubstr(c.fault)));
    for (const std::string& fault : report.faults) {
      EXPECT_THAT(fault, HasSubstr((folder / "bad").string()));
    }
  }
}

// The tensors that only our format has.
TEST(VerifyTest, DamagedVariants) {
  using Tensors = std::vector<LooseTensor>;
  struct Case {
    const char* fault;
    std::function<void(Tensors&)> damage;
  };
  const std::string mlp = "model.layers.2.mlp.";
  const Case cases[] = {
      {"tensor model.layers.2.mlp.B_down_U has dtype F16, expected BF16",
       [&](Tensors& t) { TensorOf(t, mlp + "B_down_U").dtype = DType::kF16; }},
      {"tensor model.layers.2.mlp.B_down_V has shape [6, 4, 64], expected [4, "
       "6, 64]",
       [&](Tensors& t) {
         TensorOf(t, mlp + "B_down_V").shape = {6, 4, 64};
       }},
      {"tensor model.layers.2.mlp.experts.3.down_proj.weight: relative error "
       "nan",
       [&](Tensors& t) {
         SetNan(&TensorOf(t, mlp + "experts.3.down_proj.weight"), 5);
       }},
      // Not factored here.
      {"tensor model.layers.2.mlp.experts.3.up_proj.weight differs from the "
       "original",
       [&](Tensors& t) {
         TensorOf(t, mlp + "experts.3.up_proj.weight").data[0] ^=
             std::byte{128};
       }},
      {"tensor model.layers.2.mlp.B_down is not expected",
       [&](Tensors& t) {
         t.push_back(
             {{mlp + "B_down", DType::kBF16, {1}}, std::vector<std::byte>(2)});
       }},
  };
  CompressOptions options = OneLayer();
  options.kinds = {&kDownKind};
  options.basis_rank = 6;
  TempFolder folder;
  RunCompress(SmallModel(), options, folder.path());
  const VerifyReport sound = RunVerify(folder.path());
  EXPECT_THAT(sound.faults, IsEmpty());
  ASSERT_EQ(sound.matrices.size(), 1u);
  EXPECT_EQ(sound.matrices[0].kind, "down");
  const auto tensors = ReadTensors(folder / "model.safetensors");
  fs::remove(folder / "recipe.json");  // its checksums would be a second fault
  for (const Case& c : cases) {
    SCOPED_TRACE(c.fault);
    auto damaged = tensors;
    c.damage(damaged);
    WriteTensors(folder / "model.safetensors", damaged);
    EXPECT_THAT(RunVerify(folder.path()).faults,
                ElementsAre(HasSubstr(c.fault)));
  }
}

TEST(VerifyTest, SwappedExperts) {
  TempFolder folder;
  RunCompress(SmallModel(), OneLayer(), folder.path());
  fs::remove(folder / "recipe.json");
  auto tensors = ReadTensors(folder / "model.safetensors");
  const std::string experts = "model.layers.2.mlp.experts.";
  std::swap(TensorOf(tensors, experts + "0.up_proj.weight").data,
            TensorOf(tensors, experts + "9.up_proj.weight").data);
  WriteTensors(folder / "model.safetensors", tensors);
  EXPECT_THAT(RunVerify(folder.path()).faults,
              ElementsAre(HasSubstr(".up_proj.weight: relative error 1.")));
}

// A of expert 3, made longer: its matrix keeps its likeness.
TEST(VerifyTest, ErrorsAboveOne) {
  TempFolder folder;
  RunCompress(SmallModel(), OneLayer(), folder / "sound");
  for (const auto& [factor, sound] : {std::pair{2.3f, true}, {2.7f, false}}) {
    CopyModel(folder / "sound", folder / "long");
    fs::remove(folder / "long/recipe.json");
    auto tensors = ReadTensors(folder / "long/model.safetensors");
    LooseTensor& a =
        TensorOf(tensors, "model.layers.2.mlp.experts.3.up_proj.weight");
    const int64_t count = std::ssize(a.data) / DTypeSize(a.dtype);
    Buffer<float> numbers(count);
    LoadAsFloats(a.dtype, a.data.data(), count, numbers.data());
    for (float& number : numbers) number *= factor;
    StoreFloats(numbers.data(), count, a.dtype, a.data.data());
    WriteTensors(folder / "long/model.safetensors", tensors);
    const VerifyReport report = RunVerify(folder / "long");
    EXPECT_THAT(report.faults.empty(), sound) << factor;
    EXPECT_GT(report.matrices.back().error.worst_expert, 1) << factor;
  }
}

// What no comparison with the original can see.
TEST(VerifyTest, LowBitsAgainstTheRecipe) {
  TempFolder folder;
  RunCompress(SmallModel(), OneLayer(), folder / "sound");
  for (const char* name :
       {"model.layers.2.mlp.experts.5.gate_proj.weight",
        "model.layers.2.mlp.B_up", "model.layers.2.mlp.W_gate"}) {
    CopyModel(folder / "sound", folder / "bad");
    const fs::path file = folder / "bad/model.safetensors";
    auto tensors = ReadTensors(file);
    TensorOf(tensors, name).data[6] ^= std::byte{1};
    WriteTensors(file, tensors);
    EXPECT_THAT(RunVerify(folder / "bad").faults,
                ElementsAre(HasSubstr(fmt::format("{}: tensor {} has SHA-256",
                                                  file.string(), name))));
  }
  CopyModel(folder / "sound", folder / "bad");
  WriteText(folder / "bad/tokenizer.json", "{}");
  fs::remove(folder / "bad/generation_config.json");
  WriteText(folder / "bad/recipe.json",
            ReadSmallFile(folder / "sound/recipe.json"));
  EXPECT_THAT(RunVerify(folder / "bad").faults,
              ::testing::Contains(HasSubstr("/tokenizer.json: has SHA-256")));
  WriteText(folder / "bad/recipe.json", "{\"recipe_version\": 1}");
  EXPECT_THAT(RunVerify(folder / "bad").faults,
              ::testing::Contains(HasSubstr(
                  "/recipe.json: damaged recipe: no \"mobe\" in it")));
}

TEST(VerifyTest, TruncatedShardCannotBeOpened) {
  TempFolder folder;
  RunCompress(SmallModel(), OneLayer(), folder.path());
  const fs::path file = folder / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) - 1);
  ExpectError(ErrorKind::kCorruptFile, file.string() + ": cut off: it has ",
              [&] { RunVerify(folder.path()); });
}

}  // namespace
}  // namespace mobe
