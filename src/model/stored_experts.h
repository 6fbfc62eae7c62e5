// Experts as the checkpoint has them: "plain", or "fused" where the layer is
// factored.
#pragma once

#include "model/expert_executor.h"

namespace mobe {

class StoredExperts : public ExpertExecutor {
 public:
  // The weights must outlive the object.
  explicit StoredExperts(const LayerWeights& weights) : weights_(weights) {}

  const char* mode() const override {
    return weights_.factored ? "fused" : "plain";
  }
  void Run(const Arithmetic& math, MlpScratch* s) override;
  std::vector<Plane> Matrices() const override;
  int64_t TokenBytes(int64_t picks) const override;

 private:
  const LayerWeights& weights_;
};

}  // namespace mobe
