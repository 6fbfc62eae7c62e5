#include "mobe/format.h"

#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mobe/modeling_file.h"
#include "mobe/open_model.h"
#include "mobe/testing.h"

namespace mobe {
namespace {

using ::testing::ElementsAre;

const std::vector<const MatrixKind*> kGateAndUp = {&kGateKind, &kUpKind};

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
  EXPECT_EQ(model.mobe->factors, Shapes({1, 2}, kGateAndUp, 4, 32));
  EXPECT_EQ(model.mobe->activation, Activation::kSilu);
  EXPECT_THAT(model.mobe->Layers(), ElementsAre(1, 2));
  EXPECT_EQ(model.Factored(0, kGateKind), nullptr);
  EXPECT_EQ(model.Factored(2, kUpKind), &model.mobe->factors[3]);
  EXPECT_EQ(model.Factored(2, kDownKind), nullptr);
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
      {"num_B", Json(), ErrorKind::kMissing, "\"num_B\" is missing"},
      {"num_B", 0, ErrorKind::kCorruptFile, "\"num_B\" is 0"},
      {"num_B", 5, ErrorKind::kCorruptFile,
       "tensor model.layers.1.mlp.B_gate has shape [4, 32, 64], expected [5, "
       "32, 64]"},
      {"activation", "gelu", ErrorKind::kCorruptFile,
       "\"activation\" is \"gelu\", expected silu, tanh or identity"},
      {"mobe",
       {{"version", 4}, {"num_B", 4}},
       ErrorKind::kUnsupported,
       "mobe: format version 4, this mobe knows versions 1 to 3"},
      {"mobe", {{"num_B", 4}}, ErrorKind::kMissing, "\"version\" is missing"},
      {"mobe",
       {{"version", 1}},
       ErrorKind::kMissing,
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

// What was written before there was a version 2.
TEST(FormatTest, VersionOne) {
  FactoredFolder folder;
  folder.config.erase("num_B");
  folder.config["mobe"] = {{"version", 1},
                           {"num_B", 4},
                           {"activation", "identity"},
                           {"layers", {1, 2}}};
  const OpenedModel model = OpenModel(folder.Write());
  EXPECT_EQ(model.mobe->factors, Shapes({1, 2}, kGateAndUp, 4, 32));
  EXPECT_EQ(model.mobe->activation, Activation::kIdentity);
}

// The fixture's factors, as a table.
Json Table() {
  return {{{"matrix", "up"}, {"layers", {2, 1}}, {"num_B", 4}, {"rank", 32}},
          {{"matrix", "gate"}, {"layers", {1, 2}}, {"num_B", 4}, {"rank", 32}}};
}

TEST(FormatTest, KeyOfOursCounts) {
  FactoredFolder folder;
  folder.config["num_B"] = 7;
  folder.config["mobe"] = {{"version", 2}, {"factors", Table()}};
  const OpenedModel model = OpenModel(folder.Write());
  EXPECT_EQ(model.mobe->factors, Shapes({1, 2}, kGateAndUp, 4, 32));
  EXPECT_EQ(model.mobe->activation, Activation::kSilu);
}

TEST(FormatTest, WhatTheTableMaySay) {
  struct Case {
    const char* message;
    void (*change)(Json* table);
    ErrorKind kind = ErrorKind::kCorruptFile;
  };
  const char* const all = "\"factors\" is ";
  const Case cases[] = {
      {all, [](Json* t) { *t = Json(); }, ErrorKind::kMissing},
      {all, [](Json* t) { *t = Json::array(); }},
      {all, [](Json* t) { *t = Json::object(); }},
      {all, [](Json* t) { (*t)[1] = 5; }},
      {"mobe: factors[0]: \"matrix\" is \"side\", expected gate, up or down",
       [](Json* t) { (*t)[0]["matrix"] = "side"; }},
      {"factors[1]: \"matrix\" is missing, expected gate, up or down",
       [](Json* t) { (*t)[1].erase("matrix"); }, ErrorKind::kMissing},
      {"factors[0]: \"matrix\" is 1, expected a string",
       [](Json* t) { (*t)[0]["matrix"] = 1; }},
      {"factors[0]: \"num_B\" is -1, expected an integer from 1",
       [](Json* t) { (*t)[0]["num_B"] = -1; }},
      {"factors[0]: \"rank\" is 0, expected an integer from 1",
       [](Json* t) { (*t)[0]["rank"] = 0; }},
      {"factors[0]: \"num_B\" is 17, expected at most the number of experts "
       "(16)",
       [](Json* t) { (*t)[0]["num_B"] = 17; }},
      {"factors[0]: \"rank\" is 33, expected at most the size of the experts "
       "(32)",
       [](Json* t) { (*t)[0]["rank"] = 33; }},
      {"factors[1]: \"basis_rank\" is 33, expected at most \"rank\" (32)",
       [](Json* t) { (*t)[1]["basis_rank"] = 33; }},
      {"factors[0]: \"rank\" is missing",
       [](Json* t) { (*t)[0].erase("rank"); }, ErrorKind::kMissing},
      {"factors[0]: \"basis_rank\" is 1.5, expected an integer from 1",
       [](Json* t) { (*t)[0]["basis_rank"] = 1.5; }},
      {"factors[0]: \"layers\" is missing",
       [](Json* t) { (*t)[0].erase("layers"); }, ErrorKind::kMissing},
      {"factors[0]: \"layers\" is [0], expected layers that have experts",
       [](Json* t) { (*t)[0]["layers"] = {0}; }},
      {"factors[0]: \"layers\" is [3], expected layers that have experts",
       [](Json* t) { (*t)[0]["layers"] = {3}; }},
      {"factors[1]: gate of layer 1 is listed twice",
       [](Json* t) {
         (*t)[1]["layers"] = {1, 2, 1};
       }},
      {"factors[1]: up of layer 1 is listed twice",
       [](Json* t) { (*t)[1]["matrix"] = "up"; }},
      // The config against the tensors.
      {"tensor model.layers.1.mlp.B_gate is there, but",
       [](Json* t) { (*t)[1]["layers"] = {2}; }},
      {"config.json does not say how up of layer 1 is factored",
       [](Json* t) { t->erase(0); }},
      {"tensor model.layers.1.mlp.B_gate has shape [4, 32, 64], expected [5, "
       "32, 64] by config.json",
       [](Json* t) { (*t)[1]["num_B"] = 5; }},
      {"tensor model.layers.1.mlp.B_up has shape [4, 32, 64], expected [4, 31, "
       "64] by config.json",
       [](Json* t) { (*t)[0]["rank"] = 31; }},
      {"no tensor model.layers.1.mlp.B_gate_U, expected one of shape [4, 32, "
       "8]",
       [](Json* t) { (*t)[1]["basis_rank"] = 8; }, ErrorKind::kMissing},
      {"no tensor model.layers.1.mlp.B_down, expected one of shape [4, 32, 64]",
       [](Json* t) {
         t->push_back((*t)[0]);
         (*t)[2]["matrix"] = "down";
       },
       ErrorKind::kMissing},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    FactoredFolder folder;
    Json table = Table();
    c.change(&table);
    folder.config["mobe"] = {{"version", 2}, {"factors", table}};
    ExpectError(c.kind, c.message, [&] { OpenModel(folder.Write()); });
  }
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
  SplitIntoTwoGroups(&folder.config, &folder.tensors);
  const OpenedModel model = OpenModel(folder.Write());
  EXPECT_EQ(model.mobe->factors, Shapes({1, 2}, kGateAndUp, 8, 32, 0, 2));
  EXPECT_EQ(model.tensors.size(), model.checkpoint.tensors().size());
  EXPECT_EQ(model.At(Role::kUpBases, 2, 1).name, "model.layers.2.mlp.B_up_1");
  Json json = ReadConfig(folder.Write());
  AddAutoMap(&json);
  EXPECT_EQ(FactoredConfig(PlainConfig(json), ConfigOf(json), *model.mobe),
            json);
}

std::string InLayer1(const char* name) {
  return fmt::format("model.layers.1.mlp.{}", name);
}

TEST(FormatTest, ExpertGroupsThatDoNotFit) {
  struct Case {
    const char* message;
    void (*change)(FactoredFolder* folder);
    ErrorKind kind = ErrorKind::kCorruptFile;
  };
  const Case cases[] = {
      {"no tensor model.layers.1.mlp.B_gate_1, expected one of shape [4, 32, "
       "64]",
       [](auto* f) { f->Erase(InLayer1("B_gate_1")); }, ErrorKind::kMissing},
      {"no tensor model.layers.1.mlp.B_gate_0, expected one of shape [4, 32, "
       "64]",
       [](auto* f) { f->Erase(InLayer1("B_gate_0")); }, ErrorKind::kMissing},
      {"no tensor model.layers.2.mlp.W_up_1, expected one of shape [8, 4]",
       [](auto* f) { f->Erase("model.layers.2.mlp.W_up_1"); },
       ErrorKind::kMissing},
      {"layer 1 has tensor model.layers.1.mlp.B_gate_0 but not "
       "model.layers.1.mlp.B_up",
       [](auto* f) {
         f->Erase(InLayer1("B_up_0"));
         f->Erase(InLayer1("B_up_1"));
       }},
      {"tensors model.layers.1.mlp.B_up and model.layers.1.mlp.B_up_0 are both "
       "there, expected bases either for all experts or for groups of them",
       [](auto* f) {
         f->tensors.push_back(TensorOf(f->tensors, InLayer1("B_up_0")));
         f->tensors.back().name = InLayer1("B_up");
       }},
      // One layer in groups, the other not.
      {"no tensor model.layers.2.mlp.B_gate_0, expected one of shape [4, 32, "
       "64]",
       [](auto* f) {
         TensorOf(f->tensors, "model.layers.2.mlp.B_gate_0").name =
             "model.layers.2.mlp.B_gate";
         f->Erase("model.layers.2.mlp.B_gate_1");
       },
       ErrorKind::kMissing},
      {"\"num_B\" is 7, expected an even number, since "
       "model.layers.1.mlp.B_gate_0 is of one of two expert groups",
       [](auto* f) { f->config["num_B"] = 7; }},
      {"\"num_B\" is missing", [](auto* f) { f->config.erase("num_B"); },
       ErrorKind::kMissing},
      {"15 experts, expected an even number, since model.layers.1.mlp.B_gate_0",
       [](auto* f) { f->config["num_experts"] = 15; }},
      // The number in a group where that of all is expected.
      {"tensor model.layers.1.mlp.B_gate_0 has shape [4, 32, 64], expected [2, "
       "32, 64] by config.json",
       [](auto* f) { f->config["num_B"] = 4; }},
      {"tensor model.layers.1.mlp.W_gate_1 has shape [16, 2], expected [8, 4]",
       [](auto* f) {
         TensorOf(f->tensors, InLayer1("W_gate_1")).shape = {16, 2};
       }},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    FactoredFolder folder;
    SplitIntoTwoGroups(&folder.config, &folder.tensors);
    c.change(&folder);
    ExpectError(c.kind, c.message, [&] { OpenModel(folder.Write()); });
  }
}

// Any number of groups, where the table tells.
TEST(FormatTest, ExpertGroupsOfTheTable) {
  FactoredFolder folder;
  SplitIntoTwoGroups(&folder.config, &folder.tensors);
  const auto open_with = [&](const Json& groups) {
    Json table = Table();
    for (Json& row : table) {
      row["num_B"] = 8;
      row["groups"] = groups;
    }
    folder.config["mobe"] = {{"version", 2}, {"factors", table}};
    return OpenModel(folder.Write()).mobe->factors;
  };
  EXPECT_EQ(open_with(2), Shapes({1, 2}, kGateAndUp, 8, 32, 0, 2));
  ExpectError(ErrorKind::kCorruptFile,
              "tensor model.layers.1.mlp.B_gate_0 has shape [4, 32, 64], "
              "expected [2, 32, 64] by config.json",
              [&] { open_with(4); });
  ExpectError(ErrorKind::kMissing, "no tensor model.layers.1.mlp.B_gate,",
              [&] { open_with(1); });
  for (const Json& groups : {Json(0), Json(-1), Json("2"), Json(3), Json(16)}) {
    ExpectError(ErrorKind::kCorruptFile, "factors[0]: \"groups\" is ",
                [&] { open_with(groups); });
  }
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
  const Json factored =
      FactoredConfig(plain, ConfigOf(plain),
                     {Activation::kTanh, Shapes({1, 2}, kGateAndUp, 4, 32)});
  Json expected = plain;
  expected["num_B"] = 4;
  expected["activation"] = "tanh";
  AddAutoMap(&expected);
  EXPECT_EQ(factored, expected);
  EXPECT_EQ(PlainConfig(factored), plain);
}

// Without num_B the reference refuses what it would misread.
TEST(FormatTest, ConfigBeyondTheReference) {
  const Json plain = ReadConfig(SmallModel());
  const std::vector<const MatrixKind*> all = {&kGateKind, &kUpKind, &kDownKind};
  std::vector<FactorShape> unequal = Shapes({1, 2}, kGateAndUp, 4, 32);
  unequal[3].num_bases = 5;
  const MobeFormat formats[] = {
      {Activation::kIdentity, Shapes({1, 2}, kGateAndUp, 4, 32)},
      {Activation::kSilu, Shapes({2}, kGateAndUp, 4, 32)},
      {Activation::kSilu, Shapes({1, 2}, {&kGateKind}, 4, 32)},
      {Activation::kSilu, Shapes({1, 2}, all, 4, 32)},
      {Activation::kSilu, Shapes({1, 2}, kGateAndUp, 4, 31)},
      {Activation::kSilu, Shapes({1, 2}, kGateAndUp, 4, 32, 32)},
      {Activation::kSilu, unequal},
      {Activation::kSilu, Shapes({1, 2}, kGateAndUp, 4, 32, 0, 4)},
      {Activation::kSilu, Shapes({1}, kGateAndUp, 4, 32, 0, 2)},
  };
  for (const MobeFormat& format : formats) {
    const Json factored = FactoredConfig(plain, ConfigOf(plain), format);
    EXPECT_FALSE(factored.contains("num_B"));
    EXPECT_FALSE(factored.contains("activation"));
    EXPECT_EQ(factored.at("mobe").at("version"), 2);
    EXPECT_EQ(factored.at("mobe").at("activation"),
              ActivationName(format.activation));
    EXPECT_EQ(PlainConfig(factored), plain);
  }
  EXPECT_EQ(
      FactoredConfig(plain, ConfigOf(plain), {Activation::kSilu, unequal})
          .at("mobe")
          .at("factors"),
      Json(
          {{{"matrix", "gate"}, {"layers", {1, 2}}, {"num_B", 4}, {"rank", 32}},
           {{"matrix", "up"}, {"layers", {1}}, {"num_B", 4}, {"rank", 32}},
           {{"matrix", "up"}, {"layers", {2}}, {"num_B", 5}, {"rank", 32}}}));
}

TEST(FormatTest, StrayKeysOfAPlainModelGo) {
  Json stray = ReadConfig(SmallModel());
  stray["num_B"] = 0;
  const Json factored =
      FactoredConfig(stray, ConfigOf(stray),
                     {Activation::kSilu, Shapes({2}, kGateAndUp, 4, 32)});
  EXPECT_FALSE(factored.contains("num_B"));
}

TEST(FormatTest, InWordsAndJson) {
  MobeFormat format{Activation::kSilu, Shapes({1, 2}, kGateAndUp, 8, 32)};
  EXPECT_EQ(SummarizeFormat(format),
            "gate and up of 2 layers, 8 bases of rank 32, silu");
  EXPECT_EQ(DescribeFormat(format).at("num_bases"), 8);
  format.factors.resize(2);
  EXPECT_EQ(SummarizeFormat(format),
            "gate and up of 1 layer, 8 bases of rank 32, silu");
  format.factors = Shapes({1, 2}, kGateAndUp, 8, 32);
  format.factors[1].num_bases = 5;
  format.factors.push_back({2, &kDownKind, 6, 32, 4});
  EXPECT_EQ(SummarizeFormat(format),
            "gate, up and down of 2 layers, 5 to 8 bases of rank 32 (products "
            "of rank 0 to 4), silu");
  const Json json = DescribeFormat(format);
  EXPECT_TRUE(json.at("num_bases").is_null());
  EXPECT_EQ(json.at("groups"), 1);
  EXPECT_EQ(json.at("rank"), 32);
  EXPECT_EQ(json.at("matrices"), Json({"gate", "up", "down"}));
  EXPECT_EQ(json.at("factors").size(), 4u);
  format.factors = Shapes({1, 2}, kGateAndUp, 8, 32, 4, 2);
  EXPECT_EQ(SummarizeFormat(format),
            "gate and up of 2 layers, 8 bases of rank 32 (products of rank 4) "
            "in 2 expert groups, silu");
  EXPECT_EQ(DescribeFormat(format).at("groups"), 2);
  EXPECT_EQ(DescribeFormat(format).at("factors")[0].at("groups"), 2);
}

TEST(FormatTest, Tensors) {
  const Json json = ReadConfig(SmallModel());
  const ModelConfig config = ConfigOf(json);
  const MobeFormat format{Activation::kSilu,
                          {{2, &kGateKind, 3, 24, 0},
                           {2, &kUpKind, 4, 32, 0, 2},
                           {2, &kDownKind, 5, 20, 7}}};
  const Family& family = *Families()[0];
  const auto plain = ListTensors(family, config);
  const auto factored = ListTensors(family, config, format);
  EXPECT_EQ(factored.size(), plain.size() + 9);
  std::vector<std::string> added;
  size_t at = 0;
  for (const TensorSpec& spec : factored) {
    if (spec.name == plain[at].name) {
      std::vector<int64_t> shape = plain[at].shape;
      if (spec.layer == 2 && spec.role == Role::kExpertGate) shape = {32, 24};
      if (spec.layer == 2 && spec.role == Role::kExpertUp) shape = {32, 32};
      if (spec.layer == 2 && spec.role == Role::kExpertDown) shape = {32, 20};
      EXPECT_EQ(spec.shape, shape) << spec.name;
      ++at;
      continue;
    }
    added.push_back(fmt::format("{} [{}] before {}", spec.name,
                                fmt::join(spec.shape, ","), plain[at].name));
  }
  EXPECT_EQ(at, plain.size());
  const std::string mlp = "model.layers.2.mlp.";
  const std::string gate = " before " + mlp + "experts.0.gate_proj.weight";
  const auto up = [&](int expert) {
    return fmt::format(" before {}experts.{}.up_proj.weight", mlp, expert);
  };
  const std::string down = " before " + mlp + "experts.0.down_proj.weight";
  EXPECT_THAT(
      added,
      ElementsAre(
          mlp + "B_gate [3,24,64]" + gate, mlp + "W_gate [16,3]" + gate,
          mlp + "B_up_0 [2,32,64]" + up(0), mlp + "W_up_0 [8,2]" + up(0),
          mlp + "B_up_1 [2,32,64]" + up(8), mlp + "W_up_1 [8,2]" + up(8),
          mlp + "B_down_U [5,20,7]" + down, mlp + "B_down_V [5,7,64]" + down,
          mlp + "W_down [16,5]" + down));
}

}  // namespace
}  // namespace mobe
