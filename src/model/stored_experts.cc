#include "model/stored_experts.h"

namespace mobe {

std::vector<ActiveExpert> ListActive(const MlpScratch& s,
                                     std::span<const MlpWeights> experts) {
  std::vector<ActiveExpert> active;
  for (size_t e = 0; e < experts.size(); ++e) {
    const int64_t count = s.starts[e + 1] - s.starts[e];
    if (count == 0) continue;
    active.push_back({static_cast<int64_t>(e), experts[e], s.starts[e], count});
  }
  return active;
}

void StoredExperts::Run(const Arithmetic& math, MlpScratch* s) {
  const std::vector<ActiveExpert> active = ListActive(*s, weights_.experts);
  if (weights_.factored) {
    const int64_t all = std::ssize(weights_.experts);
    MixInputs(*weights_.factored, all, active, s->x.data(), math, s);
    RunFactoredExperts(*weights_.factored, all, active, s->x.data(), math, s);
  } else {
    RunPlainExperts(active, s->x.data(), math, s);
  }
}

std::vector<Plane> StoredExperts::Matrices() const {
  std::vector<Plane> all;
  for (const MlpWeights& expert : weights_.experts) AddPlanes(expert, &all);
  if (weights_.factored) AddPlanes(*weights_.factored, &all);
  return all;
}

int64_t StoredExperts::TokenBytes(int64_t picks) const {
  const int64_t bases = weights_.factored ? weights_.factored->bytes() : 0;
  return bases + picks * weights_.experts.front().bytes();
}

}  // namespace mobe
