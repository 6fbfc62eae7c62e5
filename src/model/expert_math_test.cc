#include "model/expert_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kernels/testing.h"
#include "model/mix_batch.h"

namespace mobe::expert_math_test {
namespace {

constexpr int64_t kHidden = 48;
constexpr int64_t kRank = 20;
constexpr int64_t kBases = 3;
constexpr int64_t kExperts = 6;
constexpr int64_t kPicks = 2;

// A layer's bases of gate and up, in groups, and some tokens on their way to
// their experts.
struct Layer {
  explicit Layer(int64_t groups, int64_t tokens) {
    factored.activation = Activation::kIdentity;
    for (int64_t g = 0; g < groups; ++g) {
      for (auto* kind : {&factored.gate, &factored.up}) {
        memory.push_back(NormalFloats(kBases * kRank * kHidden,
                                      static_cast<uint32_t>(memory.size())));
        kind->push_back(
            {StoredBases(BasesView{DType::kF32, memory.back().data(), kBases,
                                   kRank, kHidden}),
             NormalFloats(kExperts / groups * kBases, 77)});
      }
    }
    // Token t goes to experts t and t + 1, of which some have several.
    const int64_t pairs = tokens * kPicks;
    s.routing.picks_per_token = kPicks;
    s.starts.assign(kExperts + 1, 0);
    std::vector<int64_t> expert_of;
    for (int64_t i = 0; i < pairs; ++i) {
      expert_of.push_back((i / kPicks + i % kPicks) % kExperts);
      ++s.starts[static_cast<size_t>(expert_of.back()) + 1];
    }
    for (size_t e = 0; e < kExperts; ++e) s.starts[e + 1] += s.starts[e];
    std::vector<int64_t> next = s.starts;
    const std::vector<float> x = NormalFloats(tokens * kHidden, 99);
    s.pair_of.Resize(pairs);
    s.x.Resize(pairs * kHidden);
    for (int64_t i = 0; i < pairs; ++i) {
      s.pair_of[i] =
          next[static_cast<size_t>(expert_of[static_cast<size_t>(i)])]++;
      std::copy_n(x.data() + i / kPicks * kHidden, kHidden,
                  s.x.data() + s.pair_of[i] * kHidden);
    }
    for (int64_t e = 0; e < kExperts; ++e) {
      const auto at = static_cast<size_t>(e);
      const int64_t count = s.starts[at + 1] - s.starts[at];
      if (count > 0) active.push_back({e, {}, s.starts[at], count});
    }
  }

  std::vector<std::vector<float>> memory;
  FactoredWeights factored;
  MlpScratch s;
  std::vector<ActiveExpert> active;
};

// Products with all bases take the place of mixes, and give the same.
TEST(ExpertMathTest, ProductsOfBasesAreMixesOfTheIdentity) {
  for (const int64_t groups : {1, 2}) {
    for (const int64_t tokens : {1, 2, 5, 9, 150}) {
      Layer layer(groups, tokens);
      MixInputs(layer.factored, kExperts, layer.active, layer.s.x.data(),
                {Phase::kDecode}, &layer.s);
      for (const auto& [kind, got] :
           {std::pair{&layer.factored.gate, &layer.s.mixed_gate},
            std::pair{&layer.factored.up, &layer.s.mixed_up}}) {
        for (const ActiveExpert& e : layer.active) {
          const int64_t in_group = kExperts / groups;
          const SharedBases& shared =
              (*kind)[static_cast<size_t>(e.index / in_group)];
          std::vector<float> want(static_cast<size_t>(e.count * kRank));
          const MixJob job{shared.alpha.data() + e.index % in_group * kBases,
                           layer.s.x.data() + e.begin * kHidden, e.count,
                           want.data()};
          MixBatch(shared.bases, Activation::kIdentity, Phase::kDecode,
                   {&job, 1});
          for (int64_t i = 0; i < std::ssize(want); ++i) {
            ASSERT_NEAR((*got)[e.begin * kRank + i],
                        want[static_cast<size_t>(i)], 2e-4)
                << tokens << " tokens, expert " << e.index;
          }
        }
      }
    }
  }
}

// What is in a basis without weight does not matter.
TEST(ExpertMathTest, BasesOfZeroAlphaAreLeftOut) {
  Layer layer(1, 1);
  for (SharedBases& shared : layer.factored.gate) {
    for (size_t i = 0; i < shared.alpha.size(); i += kBases) {
      shared.alpha[i] = 0;
    }
  }
  std::fill_n(layer.memory[0].data(), kRank * kHidden, INFINITY);
  MixInputs(layer.factored, kExperts, layer.active, layer.s.x.data(),
            {Phase::kDecode}, &layer.s);
  for (const float value : layer.s.mixed_gate) {
    EXPECT_TRUE(std::isfinite(value));
  }
}

}  // namespace
}  // namespace mobe::expert_math_test
