// The reference solver against the published implementation: its gradients and
// steps by a run of PyTorch, its result by what train.py printed.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <random>

#include "mobe/tensors.h"
#include "mobe/testing.h"

namespace mobe {
namespace {

// The start of tests/data/fit/make_losses.py.
void Start(std::minstd_rand* random, double scale, int64_t size,
           Buffer<float>* values) {
  values->Resize(size);
  for (float& value : *values) {
    value = static_cast<float>(
        (static_cast<double>((*random)()) / 2147483647 - 0.5) * scale);
  }
}

FitOptions ReferenceOptions(int64_t passes) {
  FitOptions options;
  options.num_bases = 4;
  options.rank = 32;
  options.solver = Solver::kReference;
  options.passes = passes;
  return options;
}

TEST(FitReferenceTest, LossesOfPyTorch) {
  const Json expected =
      ParseJson(ReadSmallFile(Fixture("fit/losses.json")), "losses.json");
  const FitTarget target = LoadTarget(OpenModel(SmallModel()), 1, kGateKind);
  Factors start;
  std::minstd_rand random(1);
  Start(&random, 0.5, 16 * 32 * 32, &start.a);
  Start(&random, 2, 4 * 32 * 64, &start.bases);
  Start(&random, 4, 16 * 4, &start.alpha);
  FitOptions options = ReferenceOptions(static_cast<int64_t>(expected.size()));
  options.start = &start;
  std::vector<double> losses;
  Fit(target, options, [&](int64_t, double loss) { losses.push_back(loss); });
  ASSERT_EQ(losses.size(), expected.size());
  for (size_t i = 0; i < losses.size(); ++i) {
    const double want = expected[i];
    EXPECT_NEAR(losses[i], want, 1e-4 * want) << "pass " << i + 1;
  }
}

// The "Scaled Loss" of each layer at the last pass that train.py printed.
std::map<int64_t, double> PrintedLosses(const char* file) {
  std::map<int64_t, double> losses;
  std::ifstream in(Fixture("models/qwen3_mobe") / file);
  int64_t layer = -1;
  for (std::string line; std::getline(in, line);) {
    double loss = 0;
    std::sscanf(line.c_str(), "layer: %ld", &layer);
    if (std::sscanf(line.c_str(), "Epoch 600, Scaled Loss: %lf", &loss) == 1) {
      losses[layer] = loss;
    }
  }
  return losses;
}

// From its own start, by SVD; 600 passes of silu with 4 bases.
TEST(FitReferenceTest, ResultOfTrainPy) {
  const OpenedModel model = OpenModel(SmallModel());
  for (const auto& [kind, file] : {std::pair{&kGateKind, "train_gate_proj.txt"},
                                   {&kUpKind, "train_up_proj.txt"}}) {
    const auto printed = PrintedLosses(file);
    ASSERT_EQ(printed.size(), 2u);
    for (const auto& [layer, want] : printed) {
      double last = 0;
      const FitTarget target = LoadTarget(model, layer, *kind);
      const Factors factors = Fit(target, ReferenceOptions(600),
                                  [&](int64_t, double loss) { last = loss; });
      std::cout << layer << kind->name << " " << last / want << " "
                << MeasureFit(target, factors).scaled_mse / want << "\n";
      EXPECT_NEAR(last / want, 1, 0.05) << "layer " << layer << kind->name;
    }
  }
}

}  // namespace
}  // namespace mobe
