#include "model/streamed_experts.h"

#include <algorithm>

namespace mobe {

void StreamedExperts::Expect(std::span<const int32_t> experts,
                             Urgency urgency) {
  std::vector<int64_t> distinct(experts.begin(), experts.end());
  std::ranges::sort(distinct);
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  const auto most = static_cast<size_t>(chunk());
  if (distinct.size() > most) distinct.resize(most);
  // A layer begins: what is held is of a pass that failed.
  if (urgency == Urgency::kNow) store_.ReleaseAll();
  store_.Expect(layer_, distinct, urgency);
}

void StreamedExperts::Run(const Arithmetic& math, MlpScratch* s) {
  std::vector<ActiveExpert> active = ListActive(*s, weights_.experts);
  std::vector<int64_t> ids;
  for (const ActiveExpert& expert : active) ids.push_back(expert.index);
  // Also when a file can't be read.
  struct Releaser {
    ExpertStore& store;
    ~Releaser() { store.ReleaseAll(); }
  };
  const Releaser releaser{store_};
  const auto size = static_cast<size_t>(chunk());
  const auto part = [&](size_t begin) {
    return std::span<const int64_t>(ids).subspan(
        std::min(begin, ids.size()),
        std::min(size, ids.size() - std::min(begin, ids.size())));
  };
  store_.Expect(layer_, part(0), Urgency::kNow);
  const auto all = static_cast<int64_t>(weights_.experts.size());
  const float* x = s->x.data();
  if (weights_.factored) {
    MixInputs(*weights_.factored, all, active, x, math, s);
  }
  for (size_t begin = 0; begin < ids.size(); begin += size) {
    const auto now = part(begin);
    store_.Expect(layer_, part(begin + size), Urgency::kNow);
    const auto experts = std::span(active).subspan(begin, now.size());
    for (ActiveExpert& expert : experts) {
      expert.weights = store_.Take(layer_, expert.index);
    }
    if (weights_.factored) {
      RunFactoredExperts(*weights_.factored, all, experts, x, math, s);
    } else {
      RunPlainExperts(experts, x, math, s);
    }
    store_.Release(layer_, now);
  }
}

std::vector<Plane> StreamedExperts::Matrices() const {
  std::vector<Plane> all;
  if (weights_.factored) AddPlanes(*weights_.factored, &all);
  return all;
}

int64_t StreamedExperts::TokenBytes(int64_t picks) const {
  const int64_t bases = weights_.factored ? weights_.factored->bytes() : 0;
  return bases + picks * weights_.experts.front().bytes();
}

}  // namespace mobe
