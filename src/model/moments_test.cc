#include "model/moments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "base/testing.h"
#include "mobe/moments_file.h"
#include "model/test_models.h"

namespace mobe::moments_test {
namespace {

constexpr int64_t kContext = 20;
constexpr int64_t kCount = 130;  // six windows and a shorter one

std::vector<int32_t> Ids(int64_t vocab_size) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kCount; ++i) {
    ids.push_back(static_cast<int32_t>(i * i * 7 % vocab_size));
  }
  return ids;
}

void Collect(const std::filesystem::path& file, const char* name = "qwen3_moe",
             CalibrationScope scope = CalibrationScope::kExperts) {
  const OpenedModel model = OpenModel(TestModel(name));
  const std::vector<int32_t> ids = Ids(model.config.vocab_size);
  CollectMoments(model, {ids, kContext}, scope, file,
                 [](const ProgressEvent&) {});
}

// What a layer's moments are by their definition, in double.
struct Sums {
  std::vector<double> moment, importance, down;
  double weights = 0;
};

// The value of `w` x.
std::vector<double> Apply(const WeightView& w, const float* x) {
  std::vector<double> y(static_cast<size_t>(w.rows));
  for (int64_t r = 0; r < w.rows; ++r) {
    for (int64_t j = 0; j < w.cols; ++j) {
      y[static_cast<size_t>(r)] +=
          static_cast<double>(
              LoadAsFloat(RowOf(w.format).codes, w.codes, r * w.cols + j)) *
          x[j];
    }
  }
  return y;
}

void AddSquare(const std::vector<double>& x, double weight,
               std::vector<double>* sum) {
  sum->resize(x.size() * x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    for (size_t j = 0; j < x.size(); ++j) {
      (*sum)[i * x.size() + j] += weight * x[i] * x[j];
    }
  }
}

std::map<int64_t, Sums> SumsOfForwardPass(const char* name) {
  const Model model = Model::Load(TestModel(name), {});
  const ModelConfig& c = model.config();
  const std::vector<int32_t> ids = Ids(c.vocab_size);
  std::map<int64_t, Sums> sums;
  const auto observe = [&](int64_t layer, const float* x,
                           const Routing& routing) {
    Sums& s = sums[layer];
    s.importance.resize(static_cast<size_t>(c.num_experts));
    for (int64_t t = 0; t < routing.tokens; ++t) {
      const float* row = x + t * c.hidden_size;
      AddSquare({row, row + c.hidden_size}, 1.0, &s.moment);
      for (int64_t k = 0; k < routing.picks_per_token; ++k) {
        const auto i = static_cast<size_t>(t * routing.picks_per_token + k);
        const auto e = static_cast<size_t>(routing.experts[i]);
        const double square = std::pow(double{routing.weights[i]}, 2);
        const MlpWeights& w =
            model.weights().layers[static_cast<size_t>(layer)].experts[e];
        std::vector<double> inner = Apply(w.gate, row);
        const std::vector<double> up = Apply(w.up, row);
        for (size_t j = 0; j < inner.size(); ++j) {
          inner[j] *= up[j] / (1 + std::exp(-inner[j]));
        }
        AddSquare(inner, square, &s.down);
        s.importance[e] += square;
        s.weights += square;
      }
    }
  };
  std::vector<float> logits(static_cast<size_t>(kContext * c.vocab_size));
  for (int64_t begin = 0; begin < kCount; begin += kContext) {
    KvCache cache(c, kContext);
    const auto tokens = std::min(kContext, kCount - begin);
    model.Forward({ids.data() + begin, static_cast<size_t>(tokens)}, &cache,
                  LogitsFor::kAll, logits.data(), observe);
  }
  return sums;
}

// Relative to the largest value.
void ExpectClose(const SafetensorsFile& file, const std::string& name,
                 const std::vector<double>& sum, double divisor) {
  const TensorView& tensor = file.At(name);
  ASSERT_EQ(tensor.elements(), static_cast<int64_t>(sum.size())) << name;
  double largest = 0;
  for (const double value : sum) largest = std::max(largest, std::abs(value));
  ASSERT_GT(largest, 0) << name;
  for (size_t i = 0; i < sum.size(); ++i) {
    const double value =
        LoadAsFloat(tensor.dtype, tensor.data.data(), static_cast<int64_t>(i));
    ASSERT_NEAR(value * divisor, sum[i], 1e-5 * largest) << name << " " << i;
  }
}

class MomentsOfTest : public testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(KindsOfLayers, MomentsOfTest,
                         testing::Values("qwen3_moe", "qwen3_next"));

TEST_P(MomentsOfTest, AreThoseOfAPlainForwardPass) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "moments.safetensors";
  Collect(path, GetParam());
  const SafetensorsFile file(path);
  const auto sums = SumsOfForwardPass(GetParam());
  ASSERT_EQ(sums.size(), 2u);  // the first of three layers is dense
  for (const auto& [layer, s] : sums) {
    ExpectClose(file, MomentsName(layer, "moment"), s.moment, kCount);
    ExpectClose(file, MomentsName(layer, "importance"), s.importance, kCount);
    ExpectClose(file, MomentsName(layer, "down_moment"), s.down, s.weights);
  }
  EXPECT_EQ(file.tensors().size(), 13u);
  EXPECT_EQ(LoadMomentsTokens(path).size(), 130u);
  EXPECT_EQ(file.metadata().at("tokens"), "130");
  EXPECT_EQ(file.metadata().at("context"), "20");
}

// A full forward pass in one window would see more context.
TEST(MomentsTest, HashTellsTokensAndContext) {
  const std::vector<int32_t> a = {1, 2, 3};
  const std::vector<int32_t> b = {1, 2, 4};
  const std::string hash = CalibrationTokens{a, 2}.Hash();
  EXPECT_EQ(hash, (CalibrationTokens{a, 2}.Hash()));
  EXPECT_NE(hash, (CalibrationTokens{a, 3}.Hash()));
  EXPECT_NE(hash, (CalibrationTokens{b, 2}.Hash()));
}

TEST(MomentsTest, AreTheSameForAnyNumberOfThreads) {
  const TemporaryFolder folder;
  SetThreads(1);
  Collect(folder.path() / "one", "kimi_k2_mobe", CalibrationScope::kAll);
  SetThreads(3);
  Collect(folder.path() / "three", "kimi_k2_mobe", CalibrationScope::kAll);
  SetThreads(0);
  EXPECT_EQ(ReadSmallFile(folder.path() / "one"),
            ReadSmallFile(folder.path() / "three"));
}

TEST(MomentsTest, RefusesWhatItCannotRun) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "moments.safetensors";
  const OpenedModel model = OpenModel(TestModel("qwen3_moe"));
  const auto collect = [&](const std::vector<int32_t>& ids, int64_t context) {
    CollectMoments(model, {ids, context}, CalibrationScope::kExperts, path,
                   [](const ProgressEvent&) {});
  };
  ExpectError(ErrorKind::kUserInput, "no tokens to calibrate on",
              [&] { collect({}, 8); });
  ExpectError(ErrorKind::kUserInput, "a calibration context of 0",
              [&] { collect({1}, 0); });
  ExpectError(ErrorKind::kUserInput, "expected 1 to",
              [&] { collect({1}, model.config.max_positions + 1); });
  ExpectError(ErrorKind::kUserInput, "token id -1 of the calibration", [&] {
    collect({1, -1}, 8);
  });
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// What the fit gets: scaled, and experts without tokens raised.
TEST(MomentsTest, TargetsGetThemScaled) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "moments.safetensors";
  Collect(path);
  const SafetensorsFile file(path);
  FitTarget target;
  target.experts = 16;
  target.rows = 32;
  target.cols = 64;
  LoadMoments(path, 1, kGateKind, &target);
  double trace = 0;
  for (int64_t k = 0; k < 64; ++k) trace += target.moment[k * 65];
  EXPECT_NEAR(trace, 64, 1e-3);
  const TensorView& importance = file.At(MomentsName(1, "importance"));
  double sum = 0;
  for (int64_t e = 0; e < 16; ++e) {
    sum += LoadAsFloat(importance.dtype, importance.data.data(), e);
  }
  for (int64_t e = 0; e < 16; ++e) {
    const double share =
        16 * LoadAsFloat(importance.dtype, importance.data.data(), e) / sum;
    EXPECT_NEAR(target.importance[e], std::max(share, double{kLeastImportance}),
                1e-5);
  }
  ASSERT_EQ(target.inputs.starts.size(), 17u);
  EXPECT_EQ(target.inputs.starts.back(),
            static_cast<int64_t>(target.inputs.tokens.size()));
  // A group's are a part of those of all.
  FitTarget part;
  part.experts = 8;
  part.rows = 32;
  part.cols = 64;
  LoadMoments(path, 1, kGateKind, 16, {8, 8, 1}, &part);
  EXPECT_TRUE(std::ranges::equal(part.moment, target.moment));
  ASSERT_EQ(part.inputs.starts.size(), 9u);
  for (int64_t e = 0; e < 8; ++e) {
    EXPECT_EQ(part.importance[e], target.importance[8 + e]);
    const int64_t pairs = part.inputs.starts[e + 1] - part.inputs.starts[e];
    ASSERT_EQ(pairs, target.inputs.starts[e + 9] - target.inputs.starts[e + 8]);
    for (int64_t i = 0; i < pairs; ++i) {
      const int64_t at = part.inputs.starts[e] + i;
      const int64_t of_all = target.inputs.starts[e + 8] + i;
      EXPECT_EQ(part.inputs.tokens[at], target.inputs.tokens[of_all]);
      EXPECT_EQ(part.inputs.weights[at], target.inputs.weights[of_all]);
    }
  }
  // Of down the columns are outputs, which the input's moment says nothing of.
  FitTarget down;
  down.experts = 16;
  down.rows = 32;
  down.cols = 64;
  LoadMoments(path, 1, kDownKind, &down);
  EXPECT_EQ(down.moment.size(), 0);
  EXPECT_TRUE(down.inputs.empty());
  target.cols = 32;
  ExpectError(ErrorKind::kCorruptFile, "no calibration of this model",
              [&] { LoadMoments(path, 1, kGateKind, &target); });
  target.cols = 64;
  ExpectError(ErrorKind::kMissing, "model.layers.0.moment",
              [&] { LoadMoments(path, 0, kGateKind, &target); });
}

}  // namespace
}  // namespace mobe::moments_test
