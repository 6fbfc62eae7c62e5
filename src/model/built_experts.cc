#include "model/built_experts.h"

#include <numeric>

#include "model/expert_builder.h"

namespace mobe {

BuiltExperts::BuiltExperts(const LayerWeights& weights,
                           std::optional<NumberFormat> format,
                           const Checkpoint& checkpoint)
    : weights_(weights),
      format_(format),
      checkpoint_(checkpoint),
      expert_bytes_(BuiltExpertBytes(weights, format)),
      memory_(std::ssize(weights.experts) * expert_bytes_) {}

void BuiltExperts::Build() {
  std::vector<int64_t> all(weights_.experts.size());
  std::iota(all.begin(), all.end(), 0);
  std::vector<std::byte*> memory;
  for (const int64_t e : all) {
    memory.push_back(memory_.data() + e * expert_bytes_);
  }
  experts_ = ExpertBuilder(weights_, format_).Build(all, memory);
  std::vector<Plane> factors;
  AddPlanes(*weights_.factored, &factors);
  for (const KindMembers& members : kKindMembers) {
    if (((*weights_.factored).*members.shared).empty()) continue;
    for (const MlpWeights& expert : weights_.experts) {
      for (const Plane& plane : PlanesOf(expert.*members.matrix)) {
        factors.push_back(plane);
      }
    }
  }
  for (const Plane& plane : factors) checkpoint_.Evict(plane);
}

void BuiltExperts::Run(const Arithmetic& math, MlpScratch* s) {
  if (experts_.empty()) Build();
  RunPlainExperts(ListActive(*s, experts_), s->x.data(), math, s);
}

std::vector<Plane> BuiltExperts::Matrices() const {
  std::vector<Plane> all;
  for (const MlpWeights& expert : experts_) AddPlanes(expert, &all);
  return all;
}

// What is not factored lies in the checkpoint.
int64_t BuiltExperts::TokenBytes(int64_t picks) const {
  int64_t bytes = expert_bytes_;
  for (const KindMembers& members : kKindMembers) {
    if (!((*weights_.factored).*members.shared).empty()) continue;
    bytes += (weights_.experts.front().*members.matrix).bytes();
  }
  return picks * bytes;
}

}  // namespace mobe
