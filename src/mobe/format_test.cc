#include "mobe/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mobe/testing.h"

namespace mobe {
namespace {

using ::testing::ElementsAre;

// A changed copy of the fixture that the reference implementation wrote: 4
// bases of rank 32, silu, layers 1 and 2.
class FactoredFolder {
 public:
  FactoredFolder()
      : config(ReadConfig(Fixture("models/qwen3_mobe"))),
        tensors(ReadTensors(Fixture("models/qwen3_mobe/model.safetensors"))) {}

  const std::filesystem::path& Write() {
    WriteConfig(folder_.path(), config);
    WriteTensors(folder_ / "model.safetensors", tensors);
    return folder_.path();
  }

  void Erase(std::string_view name) {
    std::erase_if(tensors, [&](const auto& t) { return t.name == name; });
  }

  Json config;
  std::vector<LooseTensor> tensors;

 private:
  TempFolder folder_;
};

ModelConfig ConfigOf(const Json& json) {
  const ConfigReader reader(json, "config.json");
  return FamilyOf(reader).read_config(reader);
}

TEST(FormatTest, PlainModel) {
  EXPECT_FALSE(OpenModel(TinyModel()).mobe);
  EXPECT_FALSE(OpenModel(SmallModel()).mobe);
}

TEST(FormatTest, ReferenceModel) {
  const OpenedModel model = OpenModel(Fixture("models/qwen3_mobe"));
  ASSERT_TRUE(model.mobe);
  EXPECT_EQ(model.mobe->num_bases, 4);
  EXPECT_EQ(model.mobe->rank, 32);
  EXPECT_EQ(model.mobe->activation, Activation::kSilu);
  EXPECT_THAT(model.mobe->layers, ElementsAre(1, 2));
  EXPECT_FALSE(model.IsFactored(0));
  EXPECT_TRUE(model.IsFactored(2));
  EXPECT_EQ(model.tensors.size(), model.checkpoint.tensors().size());
}

TEST(FormatTest, WhatTheConfigMaySay) {
  struct Case {
    const char* key;
    Json value;  // null: the key is missing
    ErrorKind kind;
    const char* message;
  };
  const Case cases[] = {
      {"num_B", Json(), ErrorKind::kCorruptFile, "\"num_B\" is missing"},
      {"num_B", 0, ErrorKind::kCorruptFile, "\"num_B\" is 0"},
      {"num_B", 5, ErrorKind::kCorruptFile,
       "tensor model.layers.1.mlp.B_gate has shape [4, 32, 64], expected [5, "
       "32, 64]"},
      {"activation", "gelu", ErrorKind::kCorruptFile,
       "\"activation\" is \"gelu\", expected silu, tanh or identity"},
      {"mobe",
       {{"version", 2}, {"num_B", 4}},
       ErrorKind::kUnsupported,
       "mobe: format version 2, this mobe knows version 1"},
      {"mobe",
       {{"num_B", 4}},
       ErrorKind::kCorruptFile,
       "\"version\" is missing"},
      {"mobe",
       {{"version", 1}},
       ErrorKind::kCorruptFile,
       "mobe: \"num_B\" is missing"},
      {"mobe",
       {{"version", 1}, {"num_B", 4}, {"layers", {1}}},
       ErrorKind::kCorruptFile,
       "\"layers\" is [1], expected the layers that have bases"},
      {"mobe", 1, ErrorKind::kCorruptFile, "\"mobe\" is 1, expected an object"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    FactoredFolder folder;
    folder.config[c.key] = c.value;
    if (c.value.is_null()) folder.config.erase(c.key);
    ExpectError(c.kind, c.message, [&] { OpenModel(folder.Write()); });
  }
}

TEST(FormatTest, KeyOfOursCounts) {
  FactoredFolder folder;
  folder.config.erase("num_B");
  folder.config["mobe"] = {{"version", 1},
                           {"num_B", 4},
                           {"activation", "identity"},
                           {"layers", {1, 2}}};
  const OpenedModel model = OpenModel(folder.Write());
  EXPECT_EQ(model.mobe->num_bases, 4);
  EXPECT_EQ(model.mobe->activation, Activation::kIdentity);
}

TEST(FormatTest, HalfFactoredLayer) {
  FactoredFolder folder;
  folder.Erase("model.layers.2.mlp.B_up");
  ExpectError(ErrorKind::kCorruptFile,
              "layer 2 has tensor model.layers.2.mlp.B_gate but not "
              "model.layers.2.mlp.B_up",
              [&] { OpenModel(folder.Write()); });
}

TEST(FormatTest, NoAlpha) {
  FactoredFolder folder;
  folder.Erase("model.layers.1.mlp.W_up");
  ExpectError(ErrorKind::kMissing,
              "no tensor model.layers.1.mlp.W_up, expected one of shape [16, "
              "4]",
              [&] { OpenModel(folder.Write()); });
}

TEST(FormatTest, BasesThatAreNoThreeDimensions) {
  for (const std::vector<int64_t>& shape :
       {std::vector<int64_t>{4, 32 * 64}, {4, 0, 64}}) {
    FactoredFolder folder;
    LooseTensor& bases = TensorOf(folder.tensors, "model.layers.1.mlp.B_gate");
    bases.shape = shape;
    bases.data.resize(bases.bytes());
    ExpectError(ErrorKind::kCorruptFile,
                "tensor model.layers.1.mlp.B_gate has shape [4, ",
                [&] { OpenModel(folder.Write()); });
  }
}

// As the reference writes Kimi-K2: nothing but the names tells.
TEST(FormatTest, ExpertGroups) {
  FactoredFolder folder;
  for (LooseTensor& tensor : folder.tensors) {
    for (const char* name : {"B_gate", "B_up", "W_gate", "W_up"}) {
      if (tensor.name.ends_with(name)) tensor.name += "_0";
    }
  }
  ExpectError(ErrorKind::kUnsupported, "has bases in expert groups",
              [&] { OpenModel(folder.Write()); });
}

TEST(FormatTest, KeyWithoutBases) {
  TempFolder folder;
  CopyModel(TinyModel(), folder.path());
  Json config = ReadConfig(folder.path());
  config["mobe"] = {{"version", 1}, {"num_B", 2}};
  WriteConfig(folder.path(), config);
  ExpectError(ErrorKind::kMissing,
              "the key \"mobe\" says that the model is factored",
              [&] { OpenModel(folder.path()); });
}

TEST(FormatTest, ConfigOfTheReference) {
  const Json plain = ReadConfig(SmallModel());
  const Json factored = FactoredConfig(plain, ConfigOf(plain),
                                       {4, 32, Activation::kTanh, {1, 2}});
  Json expected = plain;
  expected["num_B"] = 4;
  expected["activation"] = "tanh";
  EXPECT_EQ(factored, expected);
  EXPECT_EQ(PlainConfig(factored), plain);
}

// Without num_B the reference refuses what it would misread.
TEST(FormatTest, ConfigBeyondTheReference) {
  const Json plain = ReadConfig(SmallModel());
  const MobeFormat formats[] = {{4, 32, Activation::kIdentity, {1, 2}},
                                {4, 32, Activation::kSilu, {2}}};
  for (const MobeFormat& format : formats) {
    const Json factored = FactoredConfig(plain, ConfigOf(plain), format);
    EXPECT_FALSE(factored.contains("num_B"));
    EXPECT_FALSE(factored.contains("activation"));
    EXPECT_EQ(factored.at("mobe"),
              Json({{"version", 1},
                    {"num_B", 4},
                    {"activation", ActivationName(format.activation)},
                    {"layers", format.layers}}));
    EXPECT_EQ(PlainConfig(factored), plain);
  }
}

TEST(FormatTest, StrayKeysOfAPlainModelGo) {
  Json stray = ReadConfig(SmallModel());
  stray["num_B"] = 0;
  const Json factored =
      FactoredConfig(stray, ConfigOf(stray), {4, 32, Activation::kSilu, {2}});
  EXPECT_FALSE(factored.contains("num_B"));
}

TEST(FormatTest, Tensors) {
  const Json json = ReadConfig(SmallModel());
  const ModelConfig config = ConfigOf(json);
  const MobeFormat format{3, 24, Activation::kSilu, {2}};
  const Family& family = *Families()[0];
  const auto plain = ListTensors(family, config);
  const auto factored = ListTensors(family, config, format);
  EXPECT_EQ(factored.size(), plain.size() + 4);
  std::vector<std::string> changed;
  size_t at = 0;
  for (const TensorSpec& spec : factored) {
    if (spec.name == plain[at].name) {
      const bool is_a = spec.layer == 2 && (spec.role == Role::kExpertGate ||
                                            spec.role == Role::kExpertUp);
      EXPECT_EQ(spec.shape,
                is_a ? (std::vector<int64_t>{32, 24}) : plain[at].shape)
          << spec.name;
      ++at;
      continue;
    }
    changed.push_back(fmt::format("{} before {}", spec.name, plain[at].name));
    EXPECT_EQ(spec.shape, spec.name.find(".B_") != spec.name.npos
                              ? (std::vector<int64_t>{3, 24, 64})
                              : (std::vector<int64_t>{16, 3}));
  }
  EXPECT_EQ(at, plain.size());
  const std::string mlp = "model.layers.2.mlp.";
  EXPECT_THAT(
      changed,
      ElementsAre(mlp + "B_gate before " + mlp + "experts.0.gate_proj.weight",
                  mlp + "W_gate before " + mlp + "experts.0.gate_proj.weight",
                  mlp + "B_up before " + mlp + "experts.0.up_proj.weight",
                  mlp + "W_up before " + mlp + "experts.0.up_proj.weight"));
}

}  // namespace
}  // namespace mobe
