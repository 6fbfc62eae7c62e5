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

// Tensors that the table does not know are no business of ours, but in a layer
// that is run: it would not be what its makers ran.
TEST(OpenModelTest, ExtraTensors) {
  TempFolder folder;
  CopyModel(TinyModel(), folder.path());
  const auto sound = ReadTensors(folder / "model.safetensors");
  const auto open_with = [&](const std::string& name) {
    auto tensors = sound;
    tensors.push_back({{name, DType::kI64, {1}}, std::vector<std::byte>(8)});
    WriteTensors(folder / "model.safetensors", tensors);
    return OpenModel(folder.path()).tensors.size();
  };
  for (const char* name :
       {"extra", "model.layers.norm", "model.layers.1.eh_proj.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq"}) {
    EXPECT_EQ(open_with(name), sound.size()) << name;
  }
  for (const char* name : {"model.layers.0.self_attn.q_proj.bias",
                           "model.layers.0.mlp.shared_experts.up_proj.weight",
                           "model.layers.0.mlp.experts.4.up_proj.weight"}) {
    ExpectError(ErrorKind::kUnsupported,
                std::string("tensor ") + name + " is of no kind that a model",
                [&] { open_with(name); });
  }
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
