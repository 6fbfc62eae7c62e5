// Experts that are read from the disk when the router asks for them, of plain
// and of factored layers. Bases stay in memory.
#pragma once

#include "model/expert_executor.h"
#include "model/expert_store.h"

namespace mobe {

class StreamedExperts : public ExpertExecutor {
 public:
  // The weights and the store must outlive the object.
  StreamedExperts(const LayerWeights& weights, int64_t layer,
                  ExpertStore* store)
      : weights_(weights), layer_(layer), store_(*store) {}

  const char* mode() const override { return "streamed"; }
  void Run(const Arithmetic& math, MlpScratch* s) override;
  bool WantsHints() const override { return true; }
  void Expect(std::span<const int32_t> experts, Urgency urgency) override;
  std::vector<Plane> Matrices() const override;
  int64_t TokenBytes(int64_t picks) const override;

 private:
  // Experts that are taken together, so that as many can be read meanwhile.
  int64_t chunk() const { return store_.places() / 2; }

  const LayerWeights& weights_;
  const int64_t layer_;
  ExpertStore& store_;
};

}  // namespace mobe
