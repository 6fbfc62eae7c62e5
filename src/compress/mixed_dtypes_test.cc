// A layer whose experts' matrices differ in dtype, as when one was fine-tuned
// in another: through all that is made of a model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/parallel.h"
#include "compress/baseline.h"
#include "compress/reconstruct.h"
#include "compress/testing.h"
#include "compress/verify.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// Factors in the one dtype that holds all of them; copies keep their own.
TEST(MixedDTypesTest, CompressReconstructVerify) {
  TempFolder folder;
  CopyModel(TinyModel(), folder / "model");
  auto tensors = ReadTensors(folder / "model/model.safetensors");
  const auto convert = [&](const std::string& name, DType dtype) {
    LooseTensor& tensor = TensorOf(tensors, name);
    std::vector<float> values(tensor.elements());
    LoadAsFloats(tensor.dtype, tensor.data.data(), tensor.elements(),
                 values.data());
    tensor.dtype = dtype;
    tensor.data.resize(tensor.bytes());
    StoreFloats(values.data(), tensor.elements(), dtype, tensor.data.data());
  };
  const std::string experts = "model.layers.0.mlp.experts.";
  convert(experts + "1.gate_proj.weight", DType::kF16);
  convert(experts + "2.down_proj.weight", DType::kF32);
  WriteTensors(folder / "model/model.safetensors", tensors);
  const OpenedModel model = OpenModel(folder / "model");
  const auto verify = [&](const fs::path& out) {
    return Verify(out, model, [](const ProgressEvent&) {}).faults;
  };
  RunCompress(folder / "model", QuickOptions(2), folder / "out");
  EXPECT_THAT(verify(folder / "out"), ::testing::IsEmpty());
  const OpenedModel small = OpenModel(folder / "out");
  EXPECT_EQ(small.At(Role::kGateBases, 0).dtype, DType::kF32);
  EXPECT_EQ(small.At(Role::kExpertGate, 0, 0).dtype, DType::kF32);
  EXPECT_EQ(small.At(Role::kUpAlpha, 0).dtype, DType::kBF16);
  EXPECT_EQ(small.At(Role::kExpertDown, 0, 2).dtype, DType::kF32);

  const OneThread one_thread;
  Reconstruct(small, folder / "plain", int64_t{1} << 30,
              [](const ProgressEvent&) {});
  EXPECT_THAT(verify(folder / "plain"), ::testing::IsEmpty());
  CompressByBaseline(model, PlanCompression(model, QuickOptions(2)),
                     *FindMethod("svd"), folder / "svd",
                     [](const ProgressEvent&) {});
  EXPECT_THAT(verify(folder / "svd"), ::testing::IsEmpty());
  EXPECT_EQ(OpenModel(folder / "svd").At(Role::kExpertGate, 0, 1).dtype,
            DType::kF16);
}

// A basis of such weights is larger than F16 holds.
TEST(MixedDTypesTest, FactorsTooLargeForF16) {
  TempFolder folder;
  CopyModel(TinyModel(), folder / "model");
  auto tensors = ReadTensors(folder / "model/model.safetensors");
  for (LooseTensor& tensor : tensors) {
    if (tensor.name.find("experts") == std::string::npos) continue;
    std::vector<float> values(tensor.elements());
    LoadAsFloats(tensor.dtype, tensor.data.data(), tensor.elements(),
                 values.data());
    float largest = 0;
    for (const float value : values) {
      largest = std::max(largest, std::abs(value));
    }
    for (float& value : values) value *= 6e4F / largest;
    tensor.dtype = DType::kF16;
    tensor.data.resize(tensor.bytes());
    StoreFloats(values.data(), tensor.elements(), tensor.dtype,
                tensor.data.data());
  }
  WriteTensors(folder / "model/model.safetensors", tensors);
  ExpectError(
      ErrorKind::kUnsupported,
      "the factors are not finite in F16, the dtype of the weights",
      [&] { RunCompress(folder / "model", QuickOptions(2), folder / "out"); });
}

}  // namespace
}  // namespace mobe
