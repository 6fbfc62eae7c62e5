#include "mobe/open_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

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

// A tensor that the table does not know may be of what its makers ran.
TEST(OpenModelTest, ExtraTensors) {
  TempFolder folder;
  CopyModel(TinyModel(), folder.path());
  const auto sound = ReadTensors(folder / "model.safetensors");
  const auto open_with = [&](const std::string& name, int64_t size = 1) {
    auto tensors = sound;
    tensors.push_back({{name, DType::kI64, {size}},
                       std::vector<std::byte>(static_cast<size_t>(8 * size))});
    WriteTensors(folder / "model.safetensors", tensors);
    return OpenModel(folder.path()).tensors.size();
  };
  EXPECT_EQ(open_with("model.layers.0.self_attn.rotary_emb.inv_freq"),
            sound.size());
  EXPECT_EQ(open_with("mtp.fc.weight"), sound.size());
  EXPECT_EQ(open_with("model.layers.0.empty", 0), sound.size());
  for (const char* name :
       {"extra", "lm_head.bias", "score.weight", "model.layers.norm",
        "model.layers.1.eh_proj.weight", "model.visual.patch_embed.weight",
        "model.layers.0.self_attn.q_proj.lora_A.weight",
        "model.layers.0.self_attn.q_proj.bias",
        "model.layers.0.mlp.shared_experts.up_proj.weight",
        "model.layers.0.mlp.experts.4.up_proj.weight"}) {
    ExpectError(ErrorKind::kUnsupported,
                std::string("tensor \"") + name + "\" is of no kind that a",
                [&] { open_with(name); });
  }
}

// Only so many layers behind those that are run as config.json says.
TEST(OpenModelTest, LayersForMultiTokenPrediction) {
  TempFolder folder;
  CopyModel(Fixture("models/deepseek_v3_fp8"), folder.path());
  OpenModel(folder.path());
  Json config = ReadConfig(folder.path());
  config["num_nextn_predict_layers"] = 0;
  WriteConfig(folder.path(), config);
  ExpectError(ErrorKind::kUnsupported, "tensor \"model.layers.3.",
              [&] { OpenModel(folder.path()); });
}

TEST(OpenModelTest, TiedHeadThatIsStored) {
  TempFolder folder;
  CopyModel(TinyModel(), folder.path());
  Json config = ReadConfig(folder.path());
  config["tie_word_embeddings"] = true;
  WriteConfig(folder.path(), config);
  ExpectError(ErrorKind::kUnsupported,
              "tensor lm_head.weight differs from model.embed_tokens.weight, "
              "but config.json says that it is the same",
              [&] { OpenModel(folder.path()); });
  auto tensors = ReadTensors(folder / "model.safetensors");
  TensorOf(tensors, "lm_head.weight").data =
      TensorOf(tensors, "model.embed_tokens.weight").data;
  WriteTensors(folder / "model.safetensors", tensors);
  EXPECT_TRUE(OpenModel(folder.path()).config.tie_embeddings);
}

// The experts of a layer as transformers 5 stores them: one below the other.
void StackExperts(const ModelConfig& config,
                  std::vector<LooseTensor>* tensors) {
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (!config.IsMoeLayer(layer)) continue;
    const std::string experts =
        fmt::format("model.layers.{}.mlp.experts.", layer);
    const int64_t n = config.num_experts;
    const int64_t p = config.expert_size;
    const int64_t d = config.hidden_size;
    LooseTensor gate_up{{experts + "gate_up_proj", DType::kBF16, {n, 2 * p, d}},
                        {}};
    LooseTensor down{{experts + "down_proj", DType::kBF16, {n, d, p}}, {}};
    for (int64_t e = 0; e < n; ++e) {
      const auto move = [&](const char* kind, LooseTensor* to) {
        const LooseTensor& from = TensorOf(
            *tensors, fmt::format("{}{}.{}_proj.weight", experts, e, kind));
        to->data.insert(to->data.end(), from.data.begin(), from.data.end());
      };
      move("gate", &gate_up);
      move("up", &gate_up);
      move("down", &down);
    }
    std::erase_if(*tensors, [&](const LooseTensor& tensor) {
      return tensor.name.starts_with(experts);
    });
    tensors->push_back(std::move(gate_up));
    tensors->push_back(std::move(down));
  }
}

// Nothing is corrupt there.
TEST(OpenModelTest, NoHeadDim) {
  TempFolder folder;
  CopyModel(SmallModel(), folder.path());
  Json config = ReadConfig(folder.path());
  config.erase("head_dim");
  WriteConfig(folder.path(), config);
  ExpectError(ErrorKind::kMissing,
              "config.json: \"head_dim\" is missing, and hidden_size / "
              "num_attention_heads, 16, does not fit: ",
              [&] { OpenModel(folder.path()); });
}

TEST(OpenModelTest, StackedExperts) {
  TempFolder folder;
  CopyModel(TinyModel(), folder.path());
  const OpenedModel plain = OpenModel(TinyModel());
  auto tensors = ReadTensors(folder / "model.safetensors");
  StackExperts(plain.config, &tensors);
  WriteTensors(folder / "model.safetensors", tensors);
  const OpenedModel stacked = OpenModel(folder.path());
  EXPECT_EQ(stacked.checkpoint.bytes(), plain.checkpoint.bytes());
  for (const TensorSpec& spec : plain.tensors) {
    const TensorView& view = stacked.checkpoint.At(spec.name);
    EXPECT_EQ(view.shape, spec.shape) << spec.name;
    EXPECT_TRUE(
        std::ranges::equal(view.data, plain.checkpoint.At(spec.name).data))
        << spec.name;
    stacked.checkpoint.Evict(view);
  }
  std::swap(TensorOf(tensors, "model.layers.0.mlp.experts.down_proj").shape[1],
            TensorOf(tensors, "model.layers.0.mlp.experts.down_proj").shape[2]);
  WriteTensors(folder / "model.safetensors", tensors);
  ExpectError(ErrorKind::kCorruptFile,
              "model.safetensors: tensor model.layers.0.mlp.experts.down_proj "
              "has shape [4, 8, 16], expected [4, 16, 8] by config.json",
              [&] { OpenModel(folder.path()); });
}

// An index may be wrong of what is not run.
TEST(OpenModelTest, IndexFaults) {
  TempFolder folder;
  CopyModel(SmallModel(), folder.path());
  const auto path = folder / "model.safetensors.index.json";
  Json index = ParseJson(ReadSmallFile(path), "index");
  const std::string shard = index["weight_map"]["model.norm.weight"];
  index["weight_map"]["mtp.fc.weight"] = shard;
  WriteText(path, index.dump());
  OpenModel(folder.path());
  index["weight_map"].erase("model.norm.weight");
  WriteText(path, index.dump());
  ExpectError(ErrorKind::kCorruptFile,
              shard + ": tensor \"model.norm.weight\" is not in the index",
              [&] { OpenModel(folder.path()); });
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
