#include "model/input_squares.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "base/testing.h"
#include "mobe/input_squares_file.h"
#include "mobe/moments_file.h"
#include "mobe/parts.h"
#include "model/test_models.h"

namespace mobe::input_squares_test {
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
  CollectInputSquares(model, {ids, kContext}, file,
                      [](const ProgressEvent&) {});
}

// Every matrix has inputs but those of which the file says that it has none.
TEST(InputSquaresTest, OfEveryFamily) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "squares.safetensors";
  for (const char* name :
       {"qwen3_moe", "qwen3_mobe", "deepseek_v2", "deepseek_v3_mobe",
        "bailing_moe", "kimi_k2_mobe", "qwen3_5_moe", "qwen3_next"}) {
    SCOPED_TRACE(name);
    const OpenedModel model = OpenModel(TestModel(name));
    Collect(model, path);
    const InputSquares squares(path, model);
    std::set<std::string> names;
    for (const TensorSpec& spec : model.tensors) {
      if (QuantPartOf(spec) == nullptr) continue;
      const Buffer<float> importance = squares.ImportanceOf(spec);
      const bool none = spec.role == Role::kEmbedding || spec.shape.size() > 2;
      ASSERT_EQ(importance.size(), none ? 0 : spec.shape[1]) << spec.name;
      for (const float square : importance) ASSERT_GT(square, 0) << spec.name;
      names.insert(InputName(model, spec));
    }
    names.erase("");
    const SafetensorsFile file(path);
    EXPECT_EQ(file.tensors().size(), names.size());
    int64_t bytes = 0;
    for (const TensorView& tensor : file.tensors()) {
      bytes += tensor.bytes();
    }
    EXPECT_EQ(bytes, InputSquaresBytes(model));
  }
}

// What a fit's calibration finds of the inputs of down has as its diagonal the
// mean of what is found here of all experts, each with its weight in it.
TEST(InputSquaresTest, AreTheDiagonalsOfMoments) {
  const TemporaryFolder folder;
  const OpenedModel model = OpenModel(TestModel("qwen3_moe"));
  Collect(model, folder.path() / "squares");
  const std::vector<int32_t> ids = SomeIds(model);
  CollectMoments(model, {ids, kContext}, folder.path() / "moments",
                 [](const ProgressEvent&) {});
  const SafetensorsFile squares(folder.path() / "squares");
  const SafetensorsFile moments(folder.path() / "moments");
  const auto value = [](const TensorView& tensor, int64_t i) {
    return static_cast<double>(LoadAsFloat(DType::kF32, tensor.data.data(), i));
  };
  for (const int64_t layer : {1, 2}) {
    const TensorView& whole = moments.At(MomentsName(layer, "down_moment"));
    const TensorView& importance = moments.At(MomentsName(layer, "importance"));
    const int64_t size = model.config.expert_size;
    double all = 0;
    for (int64_t e = 0; e < model.config.num_experts; ++e) {
      all += value(importance, e);
    }
    const auto pairs = static_cast<double>(ids.size()) *
                       static_cast<double>(model.config.experts_per_token);
    for (int64_t i = 0; i < size; ++i) {
      const double want = value(whole, i * size + i);
      double sum = 0;
      double weights = 0;
      for (int64_t e = 0; e < model.config.num_experts; ++e) {
        const double weight =
            value(importance, e) + kPooledInputs / pairs * all;
        sum += weight * value(squares.At(InputName(layer, "down", e)), i);
        weights += weight;
      }
      EXPECT_NEAR(sum / weights, want, 1e-5 * want) << i;
    }
  }
}

TEST(InputSquaresTest, AreTheSameForAnyNumberOfThreads) {
  const TemporaryFolder folder;
  const OpenedModel model = OpenModel(TestModel("kimi_k2_mobe"));
  SetThreads(1);
  Collect(model, folder.path() / "one");
  SetThreads(3);
  Collect(model, folder.path() / "three");
  SetThreads(0);
  EXPECT_EQ(HashFile(folder.path() / "one"), HashFile(folder.path() / "three"));
}

TEST(InputSquaresTest, RefusesThoseOfAnotherModel) {
  const TemporaryFolder folder;
  const OpenedModel model = OpenModel(TestModel("qwen3_moe"));
  const OpenedModel other = OpenModel(TestModel("bailing_moe"));
  Collect(other, folder.path() / "squares");
  const InputSquares squares(folder.path() / "squares", model);
  ExpectError(ErrorKind::kCorruptFile, "no calibration of this model", [&] {
    for (const TensorSpec& spec : model.tensors) squares.ImportanceOf(spec);
  });
}

}  // namespace
}  // namespace mobe::input_squares_test
