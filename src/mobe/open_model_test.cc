#include "mobe/open_model.h"

#include <gtest/gtest.h>

#include "mobe/testing.h"

namespace mobe {
namespace {

TEST(OpenModelTest, PlainModel) {
  const OpenedModel model = OpenModel(SmallModel());
  EXPECT_STREQ(model.family->model_type, "qwen3_moe");
  EXPECT_EQ(model.config.num_layers, 3);
  EXPECT_FALSE(model.mobe);
  EXPECT_EQ(model.tensors.size(), model.checkpoint.tensors().size());
  EXPECT_EQ(model.At(Role::kFinalNorm).name, "model.norm.weight");
  EXPECT_EQ(model.At(Role::kDenseUp, 0).name,
            "model.layers.0.mlp.up_proj.weight");
  EXPECT_EQ(model.At(Role::kExpertDown, 2, 15).name,
            "model.layers.2.mlp.experts.15.down_proj.weight");
  ExpectError(ErrorKind::kMissing, "model.layers.1.mlp.B_down_V",
              [&] { model.At(Role::kDownRight, 1); });
  ExpectError(ErrorKind::kMissing, "model.layers.1.mlp.B_up",
              [&] { model.At(Role::kUpBases, 1); });
}

TEST(OpenModelTest, FactoredModel) {
  const OpenedModel model = OpenModel(Fixture("models/qwen3_mobe"));
  EXPECT_EQ(model.At(Role::kGateBases, 1).name, "model.layers.1.mlp.B_gate");
  EXPECT_EQ(model.At(Role::kUpAlpha, 2).name, "model.layers.2.mlp.W_up");
}

// Tensors that the table does not know are no business of ours.
TEST(OpenModelTest, ExtraTensor) {
  TempFolder folder;
  CopyModel(TinyModel(), folder.path());
  auto tensors = ReadTensors(folder / "model.safetensors");
  tensors.push_back({{"extra", DType::kI64, {1}}, std::vector<std::byte>(8)});
  WriteTensors(folder / "model.safetensors", tensors);
  EXPECT_EQ(OpenModel(folder.path()).tensors.size(), tensors.size() - 1);
}

TEST(OpenModelTest, WrongDType) {
  TempFolder folder;
  CopyModel(TinyModel(), folder.path());
  auto tensors = ReadTensors(folder / "model.safetensors");
  TensorOf(tensors, "model.norm.weight").dtype = DType::kI16;
  WriteTensors(folder / "model.safetensors", tensors);
  ExpectError(ErrorKind::kCorruptFile,
              (folder / "model.safetensors").string() +
                  ": tensor model.norm.weight has dtype I16, expected F32, "
                  "F16, BF16, or F8_E4M3 with scales",
              [&] { OpenModel(folder.path()); });
}

// Layers times experts is what a config can make us list.
TEST(OpenModelTest, MoreExpertsThanTensors) {
  TempFolder folder;
  CopyModel(TinyModel(), folder.path());
  Json config = ReadConfig(folder.path());
  config["num_hidden_layers"] = 20;
  config["num_experts"] = 20;
  WriteConfig(folder.path(), config);
  ExpectError(ErrorKind::kCorruptFile,
              "config.json: the number of experts in all layers is 40, but the "
              "folder holds only 24 tensors",
              [&] { OpenModel(folder.path()); });
}

}  // namespace
}  // namespace mobe
