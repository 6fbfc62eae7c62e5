#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/testing.h"
#include "io/fp8.h"
#include "mobe/input_moments_file.h"
#include "mobe/parts.h"
#include "model/moments.h"
#include "model/test_models.h"

namespace mobe::input_moments_test {
namespace {

constexpr int64_t kContext = 24;

std::vector<int32_t> SomeIds(const OpenedModel& model) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < 100; ++i) {
    ids.push_back(
        static_cast<int32_t>((i * i * 7 + i) % model.config.vocab_size));
  }
  return ids;
}

void Collect(const OpenedModel& model, const std::filesystem::path& file) {
  const std::vector<int32_t> ids = SomeIds(model);
  CollectMoments(model, {ids, kContext}, CalibrationScope::kAll, file,
                 [](const ProgressEvent&) {});
}

std::vector<double> Floats(const TensorView& tensor) {
  Buffer<float> values(tensor.elements());
  LoadFloats(tensor, values.data());
  return {values.begin(), values.end()};
}

// Every matrix that runs for every token has a moment but those of which the
// file says that it has none.
TEST(InputMomentsTest, OfEveryFamily) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "moments.safetensors";
  for (const char* name :
       {"qwen3_moe", "qwen3_mobe", "deepseek_v2", "deepseek_v3_mobe",
        "bailing_moe", "kimi_k2_mobe", "qwen3_5_moe", "qwen3_next"}) {
    SCOPED_TRACE(name);
    const OpenedModel model = OpenModel(TestModel(name));
    Collect(model, path);
    const InputMoments inputs(path, model.config);
    for (const TensorSpec& spec : model.tensors) {
      if (QuantPartOf(spec) == nullptr) continue;
      const InputMoment input = inputs.Of(spec);
      const bool none =
          (spec.role == Role::kEmbedding && !model.config.tie_embeddings) ||
          spec.role == Role::kExpertGate || spec.role == Role::kExpertUp ||
          spec.role == Role::kExpertDown || spec.role == Role::kDownBases;
      const int64_t size = spec.shape.back();
      ASSERT_EQ(input.moment.size(), none ? 0 : size * size) << spec.name;
      ASSERT_EQ(input.squares.size(), 0);
      if (none) continue;
      double trace = 0;
      for (int64_t i = 0; i < size; ++i) {
        trace += input.moment[i * (size + 1)];
        ASSERT_EQ(input.moment[i], input.moment[i * size]);
      }
      EXPECT_NEAR(trace, static_cast<double>(size), 1e-4 * trace);
    }
  }
}

// Of the first layer's attention by hand: what it reads is the embedding,
// normed.
TEST(InputMomentsTest, IsTheMeanOfProducts) {
  const TemporaryFolder folder;
  const OpenedModel model = OpenModel(TestModel("qwen3_moe"));
  Collect(model, folder.path() / "moments");
  const std::vector<double> embedding = Floats(model.At(Role::kEmbedding));
  const std::vector<double> norm = Floats(model.At(Role::kAttentionNorm, 0));
  const auto size = static_cast<size_t>(model.config.hidden_size);
  std::vector<double> want(size * size);
  const std::vector<int32_t> ids = SomeIds(model);
  for (const int32_t id : ids) {
    const double* x = embedding.data() + static_cast<size_t>(id) * size;
    double square = 0;
    for (size_t i = 0; i < size; ++i) square += x[i] * x[i];
    const double mean = square / static_cast<double>(size);
    const double scale = 1 / (mean + model.config.rms_norm_eps);
    for (size_t i = 0; i < size; ++i) {
      for (size_t j = 0; j < size; ++j) {
        want[i * size + j] += scale * x[i] * norm[i] * x[j] * norm[j] /
                              static_cast<double>(ids.size());
      }
    }
  }
  const SafetensorsFile file(folder.path() / "moments");
  const std::vector<double> found = Floats(file.At(InputName(0, "attention")));
  double most = 0;
  for (const double value : want) most = std::max(most, std::abs(value));
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(found[i], want[i], 1e-5 * most);
  }
}

TEST(InputMomentsTest, RefusesThoseOfAnotherModel) {
  const TemporaryFolder folder;
  const OpenedModel model = OpenModel(TestModel("qwen3_moe"));
  const OpenedModel other = OpenModel(TestModel("bailing_moe"));
  Collect(other, folder.path() / "moments");
  const InputMoments inputs(folder.path() / "moments", model.config);
  ExpectError(ErrorKind::kCorruptFile, "no calibration of this model", [&] {
    for (const TensorSpec& spec : model.tensors) inputs.Of(spec);
  });
}

}  // namespace
}  // namespace mobe::input_moments_test
