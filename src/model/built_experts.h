// Factored experts whose matrices W are all computed.
#pragma once

#include <optional>

#include "model/expert_executor.h"

namespace mobe {

class BuiltExperts : public ExpertExecutor {
 public:
  // Takes memory, but computes nothing: the first Run does, so that the layers
  // before it need not wait, and lets the factors go from memory. `format` as
  // of ExpertBuilder. Weights and checkpoint must outlive the object.
  BuiltExperts(const LayerWeights& weights, std::optional<NumberFormat> format,
               const Checkpoint& checkpoint);

  const char* mode() const override { return "built"; }
  void Run(const Arithmetic& math, MlpScratch* s) override;
  std::vector<Plane> Matrices() const override;
  int64_t TokenBytes(int64_t picks) const override;

 private:
  void Build();

  const LayerWeights& weights_;
  const std::optional<NumberFormat> format_;
  const Checkpoint& checkpoint_;
  const int64_t expert_bytes_;
  Buffer<std::byte> memory_;
  std::vector<MlpWeights> experts_;  // empty: not built yet
};

}  // namespace mobe
