// FP8 checkpoints through all that reads and writes model folders.
#include "io/fp8.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>

#include "compress/baseline.h"
#include "compress/reconstruct.h"
#include "compress/testing.h"
#include "compress/verify.h"
#include "mobe/copy_tensors.h"
#include "mobe/fp8_testing.h"
#include "mobe/tensors.h"

namespace mobe::compress_fp8_test {
namespace {

namespace fs = std::filesystem;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr auto kNoProgress = [](const ProgressEvent&) {};
constexpr char kExtra[] = "mtp.layers.0.mlp.up_proj.weight";
constexpr char kQuery[] = "model.layers.0.self_attn.q_proj.weight";

class Fp8Test : public testing::Test {
 protected:
  Fp8Test() { WriteFp8Model(fp8_, values_); }

  std::vector<LooseTensor> Tensors() const {
    return ReadTensors(fp8_ / "model.safetensors");
  }
  void Write(const std::vector<LooseTensor>& tensors) const {
    WriteTensors(fp8_ / "model.safetensors", tensors);
  }
  // Layer 2 factored, layer 1 as it was.
  static CompressOptions OneLayer(bool keep_fp8) {
    CompressOptions options = QuickOptions(4);
    options.first_layer = 2;
    options.keep_fp8 = keep_fp8;
    return options;
  }
  VerifyReport RunVerify(const fs::path& folder) const {
    return Verify(folder, OpenModel(fp8_), kNoProgress);
  }

  TempFolder folder_;
  const fs::path fp8_ = folder_ / "fp8";
  const fs::path values_ = folder_ / "values";
  const fs::path out_ = folder_ / "out";
};

std::vector<float> FloatsOf(const TensorView& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  LoadFloats(tensor, values.data());
  return values;
}

void RoundToBFloat16(std::vector<float>* values) {
  for (float& value : *values) value = ToFloat(ToBFloat16(value));
}

bool IsFactored(const std::string& name) {
  return name.starts_with("model.layers.2.mlp.experts.") &&
         !name.ends_with("down_proj.weight");
}

TEST_F(Fp8Test, EveryTensorIsRead) {
  const OpenedModel model = OpenModel(fp8_);
  const OpenedModel values = OpenModel(values_);
  int scaled = 0;
  for (const TensorView* want : values.checkpoint.tensors()) {
    const TensorView& tensor = model.checkpoint.At(want->name);
    EXPECT_EQ(FloatsOf(tensor), FloatsOf(*want)) << tensor.name;
    if (tensor.scales == nullptr) continue;
    ++scaled;
    EXPECT_EQ(tensor.scales->scaled, &tensor);
    // From inside of a block to inside of another row's.
    std::vector<float> part(150);
    LoadFloats(tensor, 33, 150, part.data());
    const std::vector<float> whole = FloatsOf(tensor);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 33));
  }
  EXPECT_EQ(scaled, 3 * 4 + 3 + 2 * 16 * 3 + 1);
  // Neither scales nor what the table does not know are parameters.
  EXPECT_EQ(CountParts(model, model.tensors).total(),
            CountParts(OpenModel(SmallModel()), OpenModel(SmallModel()).tensors)
                .total());
  for (const MatrixKind& kind : kMatrixKinds) {
    EXPECT_TRUE(Same(LoadTarget(model, 2, kind).weights,
                     LoadTarget(values, 2, kind).weights));
  }
}

TEST_F(Fp8Test, CompressedIsBFloat16) {
  const CompressReport report = RunCompress(fp8_, OneLayer(false), out_);
  const OpenedModel model = OpenModel(out_);
  const OpenedModel values = OpenModel(values_);
  EXPECT_FALSE(model.checkpoint.config().contains("quantization_config"));
  std::set<std::string> names;
  for (const TensorView* tensor : model.checkpoint.tensors()) {
    names.insert(tensor->name);
    EXPECT_EQ(tensor->dtype, DType::kBF16) << tensor->name;
    EXPECT_FALSE(tensor->name.ends_with("_scale_inv"));
    const TensorView* before = values.checkpoint.Find(tensor->name);
    if (before == nullptr || IsFactored(tensor->name)) continue;
    std::vector<float> want = FloatsOf(*before);
    RoundToBFloat16(&want);
    EXPECT_EQ(FloatsOf(*tensor), want) << tensor->name;
  }
  EXPECT_THAT(names, Contains(kExtra));
  const OpenedModel original = OpenModel(fp8_);
  EXPECT_EQ(PlanCompression(original, OneLayer(false)).bytes_out,
            model.checkpoint.bytes());

  const VerifyReport verified = RunVerify(out_);
  EXPECT_THAT(verified.faults, IsEmpty());
  ASSERT_EQ(verified.matrices.size(), 2u);
  EXPECT_EQ(verified.matrices[0].error.relative,
            report.matrices[0].error.relative);
  // All but the factored and the scales.
  EXPECT_EQ(verified.tensors_equal,
            static_cast<int64_t>(values.checkpoint.tensors().size()) -
                int64_t{2} * 16);
}

TEST_F(Fp8Test, KeptIsFp8AndSaysSo) {
  RunCompress(fp8_, OneLayer(true), out_);
  const OpenedModel model = OpenModel(out_);
  const OpenedModel original = OpenModel(fp8_);
  std::set<Json> plain;
  for (const TensorView* tensor : original.checkpoint.tensors()) {
    const std::string owner =
        tensor->scaled != nullptr ? tensor->scaled->name : tensor->name;
    const TensorView* copy = model.checkpoint.Find(tensor->name);
    if (IsFactored(owner)) {
      EXPECT_EQ(copy == nullptr, tensor->scaled != nullptr) << tensor->name;
    } else {
      ASSERT_NE(copy, nullptr) << tensor->name;
      EXPECT_EQ(copy->dtype, tensor->dtype);
      EXPECT_TRUE(std::ranges::equal(copy->data, tensor->data));
      EXPECT_EQ(copy->scales != nullptr, tensor->scales != nullptr);
    }
    if (copy != nullptr && copy->dtype != DType::kF8E4M3 &&
        copy->shape.size() == 2 && tensor->scaled == nullptr) {
      plain.insert(copy->name.substr(0, copy->name.rfind('.')));
    }
  }
  Json quantization = original.checkpoint.config().at("quantization_config");
  quantization["modules_to_not_convert"] = plain;
  EXPECT_EQ(model.checkpoint.config().at("quantization_config"), quantization);
  EXPECT_THAT(plain, Contains(Json("lm_head")));
  EXPECT_THAT(plain, Contains(Json("model.layers.1.mlp.gate")));
  EXPECT_THAT(plain, Contains(Json("model.layers.2.mlp.experts.15.gate_proj")));
  EXPECT_EQ(plain.size(), 2u + 2u + 2u * 16u);

  EXPECT_EQ(PlanCompression(original, OneLayer(true)).bytes_out,
            model.checkpoint.bytes());
  const VerifyReport verified = RunVerify(out_);
  EXPECT_THAT(verified.faults, IsEmpty());
  EXPECT_EQ(verified.matrices.size(), 2u);
}

// vLLM and SGLang fuse an expert's matrices, so that some in FP8 beside others
// in BF16 would not load.
TEST_F(Fp8Test, ReconstructedIsBFloat16) {
  for (const bool keep_fp8 : {false, true}) {
    RunCompress(fp8_, OneLayer(keep_fp8), out_);
    Reconstruct(OpenModel(out_), folder_ / "plain", 1'000'000'000, kNoProgress);
    const OpenedModel plain = OpenModel(folder_ / "plain");
    EXPECT_EQ(plain.checkpoint.config(), ReadConfig(SmallModel()));
    EXPECT_EQ(plain.checkpoint.tensors().size(),
              OpenModel(values_).checkpoint.tensors().size());
    for (const TensorView* tensor : plain.checkpoint.tensors()) {
      EXPECT_EQ(tensor->dtype, DType::kBF16) << tensor->name;
    }
    EXPECT_THAT(RunVerify(folder_ / "plain").faults, IsEmpty());
    fs::remove_all(out_);
    fs::remove_all(folder_ / "plain");
  }
}

TEST_F(Fp8Test, Baseline) {
  const OpenedModel model = OpenModel(fp8_);
  CompressByBaseline(model, PlanCompression(model, QuickOptions(8)),
                     *FindMethod("svd"), out_, kNoProgress);
  const OpenedModel plain = OpenModel(out_);
  for (const TensorView* tensor : plain.checkpoint.tensors()) {
    EXPECT_EQ(tensor->dtype, DType::kBF16) << tensor->name;
  }
  EXPECT_THAT(RunVerify(out_).faults, IsEmpty());
}

// A model that is not quantised, whatever its config says.
TEST_F(Fp8Test, NothingIsFp8) {
  CopyModel(values_, folder_ / "plain");
  fs::copy_file(fp8_ / "config.json", folder_ / "plain/config.json",
                fs::copy_options::overwrite_existing);
  RunCompress(folder_ / "plain", OneLayer(false), out_);
  EXPECT_FALSE(ReadConfig(out_).contains("quantization_config"));
  // And one that nobody says is.
  const Json before = ReadConfig(values_);
  EXPECT_EQ(ConfigWithFp8(before, {}), before);
  EXPECT_EQ(ConfigWithoutFp8(before), before);
}

TEST_F(Fp8Test, AnOriginalIsVerifiedAsItIs) {
  const VerifyReport report = RunVerify(fp8_);
  EXPECT_THAT(report.faults, IsEmpty());
  EXPECT_THAT(report.matrices, IsEmpty());
}

TEST_F(Fp8Test, VerifyFindsDamage) {
  using Loose = std::vector<LooseTensor>;
  struct Case {
    bool keep_fp8;
    const char* fault;
    std::function<void(Loose&, Json&)> damage;
  };
  auto before = Tensors();
  const LooseTensor scales =
      TensorOf(before, "model.layers.2.mlp.experts.3.up_proj.weight_scale_inv");
  const Case cases[] = {
      {false,
       "q_proj.weight differs from the original, expected the same values, in "
       "bfloat16",
       [](Loose& t, Json&) { TensorOf(t, kQuery).data[8] ^= std::byte{1}; }},
      {false, "mtp.layers.0.mlp.up_proj.weight differs from the original",
       [](Loose& t, Json&) {
         TensorOf(t, kExtra).data.back() ^= std::byte{1};
       }},
      {false, "up_proj.weight_scale_inv is not expected",
       [&](Loose& t, Json&) { t.push_back(scales); }},
      {true, "up_proj.weight_scale_inv is not expected",
       [&](Loose& t, Json&) { t.push_back(scales); }},
      {true, "q_proj.weight differs from the original, expected the same bytes",
       [](Loose& t, Json&) { TensorOf(t, kQuery).data[8] ^= std::byte{1}; }},
      {true, "q_proj.weight_scale_inv differs from the original",
       [](Loose& t, Json&) {
         TensorOf(t, ScalesName(kQuery)).data[1] ^= std::byte{1};
       }},
      {true, "config.json: \"quantization_config\" is ",
       [](Loose&, Json& config) {
         config["quantization_config"].erase("modules_to_not_convert");
       }},
  };
  RunCompress(fp8_, OneLayer(false), folder_ / "bf16");
  RunCompress(fp8_, OneLayer(true), folder_ / "kept");
  for (const Case& c : cases) {
    SCOPED_TRACE(c.fault);
    const fs::path sound = folder_ / (c.keep_fp8 ? "kept" : "bf16");
    fs::remove_all(out_);
    CopyModel(sound, out_);
    fs::remove(out_ / "recipe.json");  // it would find it, too
    auto tensors = ReadTensors(sound / "model.safetensors");
    Json config = ReadConfig(sound);
    c.damage(tensors, config);
    WriteTensors(out_ / "model.safetensors", tensors);
    WriteConfig(out_, config);
    EXPECT_THAT(RunVerify(out_).faults, ElementsAre(HasSubstr(c.fault)));
  }
}

TEST_F(Fp8Test, RefusesWhatItCannotRead) {
  struct Case {
    ErrorKind kind;
    const char* message;
    std::function<void(std::vector<LooseTensor>&, Json&)> damage;
  };
  const std::string name = ScalesName(kQuery);
  const auto quantization = [](const char* key, const Json& value) {
    return [key, value](std::vector<LooseTensor>&, Json& config) {
      config["quantization_config"][key] = value;
    };
  };
  const Case cases[] = {
      {ErrorKind::kCorruptFile,
       "q_proj.weight is F8_E4M3, but its scales, tensor "
       "model.layers.0.self_attn.q_proj.weight_scale_inv, are not there",
       [&](auto& tensors, Json&) {
         std::erase_if(tensors, [&](auto& t) { return t.name == name; });
       }},
      // 128 x 64 in blocks of 24 x 40.
      {ErrorKind::kCorruptFile,
       "_scale_inv\" has shape [2, 6], expected [6, 2]: one for each block of "
       "24 x 40",
       [&](auto& tensors, Json&) {
         TensorOf(tensors, name).shape = {2, 6};
       }},
      {ErrorKind::kCorruptFile, "has shape [12], expected [6, 2]",
       [&](auto& tensors, Json&) { TensorOf(tensors, name).shape = {12}; }},
      {ErrorKind::kCorruptFile,
       "has dtype I32, expected F32, F16, BF16 or F8_E8M0",
       [&](auto& tensors, Json&) {
         TensorOf(tensors, name).dtype = DType::kI32;
       }},
      {ErrorKind::kCorruptFile, "of shape [8192], expected a matrix",
       [&](auto& tensors, Json&) { TensorOf(tensors, kQuery).shape = {8192}; }},
      {ErrorKind::kCorruptFile, "config.json: no \"quantization_config\"",
       [](auto&, Json& config) { config.erase("quantization_config"); }},
      {ErrorKind::kUnsupported,
       "quantization_config: quant_method \"bitsandbytes\" can't be read",
       quantization("quant_method", "bitsandbytes")},
      {ErrorKind::kUnsupported, "fmt \"e5m2\" can't be read",
       quantization("fmt", "e5m2")},
      {ErrorKind::kUnsupported, "activation_scheme \"static\"",
       quantization("activation_scheme", "static")},
      // One scale for a matrix, or one a row, is expected then.
      {ErrorKind::kCorruptFile,
       "expected [1, 1]: one for each block of 64 x 160",
       quantization("weight_block_size", nullptr)},
      {ErrorKind::kCorruptFile, "\"weight_block_size\" is [0,128]",
       quantization("weight_block_size", {0, 128})},
      {ErrorKind::kCorruptFile, "\"weight_block_size\" is [128]",
       quantization("weight_block_size", {128})},
      {ErrorKind::kCorruptFile, "\"weight_block_size\"",
       quantization("weight_block_size", {128, int64_t{1} << 40})},
      {ErrorKind::kCorruptFile,
       "has shape [3, 4], expected [1, 1]: one for each block of 2147483648 x ",
       quantization("weight_block_size", {int64_t{1} << 31, int64_t{1} << 31})},
      {ErrorKind::kUnsupported, "the key \"weight_per_tensor\", which is true",
       quantization("weight_per_tensor", true)},
      {ErrorKind::kMissing, "\"quant_method\" is missing",
       [](auto&, Json& config) {
         config["quantization_config"] = Json::object();
       }},
      {ErrorKind::kCorruptFile, "\"quantization_config\" is 8",
       [](auto&, Json& config) { config["quantization_config"] = 8; }},
  };
  const auto sound = Tensors();
  const Json config = ReadConfig(fp8_);
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    auto tensors = sound;
    Json changed = config;
    c.damage(tensors, changed);
    Write(tensors);
    WriteConfig(fp8_, changed);
    ExpectError(c.kind, c.message, [&] { OpenModel(fp8_); });
    ExpectError(c.kind, fp8_.string(), [&] { OpenModel(fp8_); });
  }
}

// A scale that is not finite is as bad as such a weight, and so is the NaN of
// FP8; zero and negative ones are numbers like any other.
TEST_F(Fp8Test, CompressRefusesWhatIsNotFinite) {
  const std::string up = "model.layers.2.mlp.experts.3.up_proj.weight";
  const auto sound = Tensors();
  const auto set_scale = [&](float value) {
    auto tensors = sound;
    LooseTensor& scales = TensorOf(tensors, ScalesName(up));
    StoreFloats(&value, 1, scales.dtype, scales.data.data() + 4);
    Write(tensors);
  };
  const auto refused = [&](const std::string& message) {
    SCOPED_TRACE(message);
    ExpectError(ErrorKind::kCorruptFile, message,
                [&] { RunCompress(fp8_, QuickOptions(4), out_); });
    EXPECT_FALSE(fs::exists(out_ / "config.json"));
    fs::remove_all(out_);
  };
  const std::string holds =
      "tensor " + up + " holds a weight that is not finite (";
  set_scale(std::numeric_limits<float>::quiet_NaN());
  refused("");
  set_scale(std::numeric_limits<float>::infinity());
  refused("");
  auto tensors = sound;
  TensorOf(tensors, up).data[70] = std::byte{0xff};
  Write(tensors);
  refused(holds + "nan at element 70)");
  for (const float value : {0.0f, -0.001f}) {
    set_scale(value);
    RunCompress(fp8_, QuickOptions(4), out_);
    EXPECT_THAT(RunVerify(out_).faults, IsEmpty());
    fs::remove_all(out_);
  }
}

}  // namespace
}  // namespace mobe::compress_fp8_test
