#include "model/weights.h"

#include <gtest/gtest.h>

#include <cstring>

#include "model/test_models.h"

namespace mobe::weights_test {
namespace {

constexpr int64_t kTokens = 24;

// The fixture's weights under another dtype, beside its config.
void WriteAs(DType dtype, const std::filesystem::path& folder) {
  const SafetensorsFile from(TestModel("qwen3_mobe") / "model.safetensors");
  std::vector<TensorDecl> decls;
  for (const TensorView& tensor : from.tensors()) {
    decls.push_back({tensor.name, dtype, tensor.shape});
  }
  SafetensorsWriter writer(folder / "model.safetensors", decls);
  for (const TensorView& tensor : from.tensors()) {
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    LoadAsFloats(tensor.dtype, tensor.data.data(), tensor.elements(),
                 values.data());
    std::vector<std::byte> bytes(values.size() *
                                 static_cast<size_t>(DTypeSize(dtype)));
    StoreFloats(values.data(), tensor.elements(), dtype, bytes.data());
    writer.Append(tensor.name, bytes);
  }
  writer.Commit();
}

// Makes the header one byte longer, and every tensor misaligned.
void Misalign(const std::filesystem::path& file) {
  std::string bytes = ReadSmallFile(file);
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof(header));
  bytes.insert(bytes.begin() + 8 + static_cast<int64_t>(header), ' ');
  ++header;
  std::memcpy(bytes.data(), &header, sizeof(header));
  WriteFileAtomically(file, bytes);
}

struct Case {
  DType dtype;
  bool misaligned;
  bool owned;  // expected
};

class WeightsTest : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(Forms, WeightsTest,
                         testing::Values(Case{DType::kF32, false, false},
                                         Case{DType::kF32, true, true},
                                         Case{DType::kBF16, false, false},
                                         Case{DType::kBF16, true, true},
                                         Case{DType::kF16, false, true},
                                         Case{DType::kF16, true, true}));

TEST_P(WeightsTest, RunWhateverTheirForm) {
  const TemporaryFolder folder;
  std::filesystem::copy(TestModel("qwen3_mobe") / "config.json", folder.path());
  WriteAs(GetParam().dtype, folder.path());
  if (GetParam().misaligned) Misalign(folder.path() / "model.safetensors");
  const Model model =
      Model::Load(folder.path(), {Precision::kFloat32, ExpertMode::kFused});
  EXPECT_EQ(!model.weights().owned.empty(), GetParam().owned);
  const auto ids = Golden<int32_t>("qwen3_mobe", "input_ids");
  const std::vector<float> logits = RunModel(model, ids, kTokens);
  const auto golden = Golden<float>("qwen3_mobe", "logits");
  for (size_t i = 0; i < golden.size(); ++i) {
    ASSERT_NEAR(logits[i], golden[i], 1e-3) << i;
  }
}

TEST(DecodeBytesTest, CountsWhatOneTokenReads) {
  const auto bytes = [](const char* name, LoadOptions options) {
    const Model model = Model::Load(TestModel(name), options);
    return model.DecodeBytes();
  };
  // hidden 64, 4 + 2 + 2 heads of 32 and back, vocabulary 512, dense 160,
  // 4 experts of 32, 16 rows of router in float32.
  const int64_t attention = 2 * 64 * (128 + 64 + 64 + 128);
  const int64_t rest = 2 * 64 * 512 + 3 * attention + 2 * 3 * 64 * 160;
  const int64_t router = 4 * 16 * 64;
  const int64_t matrix = 2 * 64 * 32;
  EXPECT_EQ(bytes("qwen3_moe", {}), rest + 2 * (router + 4 * 3 * matrix));
  EXPECT_EQ(
      bytes("qwen3_mobe", {Precision::kFloat32, ExpertMode::kFused}),
      rest + 2 * (router + 4 * (matrix + 2 * 2 * 32 * 32) + 2 * 4 * matrix));
  EXPECT_EQ(bytes("qwen3_mobe", {.experts = ExpertMode::kBuilt,
                                 .built = NumberFormat::kBF16}),
            bytes("qwen3_moe", {}));
}

}  // namespace
}  // namespace mobe::weights_test
