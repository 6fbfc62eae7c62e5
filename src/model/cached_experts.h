// Factored experts of which the most used are built, in a bounded memory, and
// the others fused.
#pragma once

#include <optional>

#include "model/expert_executor.h"

namespace mobe {

class CachedExperts : public ExpertExecutor {
 public:
  // Keeps as many built experts as `bytes` have room for; `format` as of
  // ExpertBuilder. The weights must outlive the object.
  CachedExperts(const LayerWeights& weights, std::optional<NumberFormat> format,
                int64_t bytes);

  const char* mode() const override { return "cached"; }
  void Run(const Arithmetic& math, MlpScratch* s) override;
  Uses uses() const override { return uses_so_far_; }
  std::vector<Plane> Matrices() const override;
  int64_t TokenBytes(int64_t picks) const override;

 private:
  struct Place {
    int64_t expert = -1;
    Buffer<std::byte> memory;
  };

  void Count(const std::vector<ActiveExpert>& active);
  void BuildOne();

  const LayerWeights& weights_;
  const std::optional<NumberFormat> format_;
  const int64_t expert_bytes_;
  std::vector<Place> places_;
  std::vector<MlpWeights> built_;  // by expert
  std::vector<char> is_built_;
  Uses uses_so_far_;
  std::vector<float> uses_;  // tokens, those long ago counting less
};

}  // namespace mobe
