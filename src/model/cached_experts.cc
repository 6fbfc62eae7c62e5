#include "model/cached_experts.h"

#include <algorithm>

#include "model/expert_builder.h"

namespace mobe {
namespace {

// Of a token's use when another token has run: half of it counts after 350.
constexpr float kDecay = 0.998f;
// Uses by which an expert has to be ahead of one that is built, for its
// building takes as long as some uses of it fused.
constexpr float kLead = 16;

}  // namespace

CachedExperts::CachedExperts(const LayerWeights& weights,
                             std::optional<NumberFormat> format, int64_t bytes)
    : weights_(weights),
      format_(format),
      expert_bytes_(BuiltExpertBytes(weights, format)),
      places_(static_cast<size_t>(
          Places(bytes, 1, expert_bytes_, std::ssize(weights.experts)))),
      built_(weights.experts.size()),
      is_built_(weights.experts.size()),
      uses_(weights.experts.size()) {}

void CachedExperts::Count(const std::vector<ActiveExpert>& active) {
  for (float& uses : uses_) uses *= kDecay;
  for (const ActiveExpert& e : active) {
    uses_[static_cast<size_t>(e.index)] += static_cast<float>(e.count);
  }
}

// Builds the most used expert that is not, if it is worth it. One at a time, so
// that no token waits long.
void CachedExperts::BuildOne() {
  if (places_.empty()) return;
  // Free places hold the expert of -1, which has no uses.
  const auto uses_of = [&](int64_t expert) {
    return expert < 0 ? 0 : uses_[static_cast<size_t>(expert)];
  };
  Place& least =
      *std::ranges::min_element(places_, {}, [&](const Place& place) {
        return std::pair(place.expert >= 0, uses_of(place.expert));
      });
  int64_t best = -1;
  for (size_t e = 0; e < uses_.size(); ++e) {
    const auto expert = static_cast<int64_t>(e);
    if (!is_built_[e] && uses_of(expert) > uses_of(best)) best = expert;
  }
  if (best < 0 || uses_of(best) < uses_of(least.expert) + kLead) return;
  if (least.expert >= 0) is_built_[static_cast<size_t>(least.expert)] = 0;
  least.expert = -1;
  least.memory.Resize(expert_bytes_);
  std::byte* const memory[] = {least.memory.data()};
  const int64_t experts[] = {best};
  const auto e = static_cast<size_t>(best);
  built_[e] = ExpertBuilder(weights_, format_).Build(experts, memory).front();
  is_built_[e] = 1;
  ++uses_so_far_.built;
  least.expert = best;
}

void CachedExperts::Run(const Arithmetic& math, MlpScratch* s) {
  const std::vector<ActiveExpert> active = ListActive(*s, weights_.experts);
  std::vector<ActiveExpert> built, fused;
  for (const ActiveExpert& e : active) {
    const auto i = static_cast<size_t>(e.index);
    if (is_built_[i]) {
      built.push_back({e.index, built_[i], e.begin, e.count});
    } else {
      fused.push_back(e);
    }
  }
  const auto all = static_cast<int64_t>(weights_.experts.size());
  const float* x = s->x.data();
  if (!fused.empty()) {
    MixInputs(*weights_.factored, all, fused, x, math, s);
    RunFactoredExperts(*weights_.factored, all, fused, x, math, s);
  }
  RunPlainExperts(built, x, math, s);
  uses_so_far_.found += std::ssize(built);
  uses_so_far_.missed += std::ssize(fused);
  Count(active);
  BuildOne();
}

std::vector<Plane> CachedExperts::Matrices() const {
  std::vector<Plane> planes;
  for (const MlpWeights& expert : weights_.experts) AddPlanes(expert, &planes);
  AddPlanes(*weights_.factored, &planes);
  return planes;
}

// When none of them is built.
int64_t CachedExperts::TokenBytes(int64_t picks) const {
  return weights_.factored->bytes() + picks * weights_.experts.front().bytes();
}

}  // namespace mobe
