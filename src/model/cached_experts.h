// Factored experts of which the most used are built, in a bounded memory, and
// the others fused.
#pragma once

#include <algorithm>
#include <optional>

#include "model/expert_executor.h"

namespace mobe {

class CachedExperts : public ExpertExecutor {
 public:
  // Keeps as many built experts as `bytes` have room for; `format` as of
  // ExpertBuilder. The weights must outlive the object.
  CachedExperts(const LayerWeights& weights, std::optional<NumberFormat> format,
                int64_t bytes);

  // Experts of a layer that are built in what is left of memory beside the
  // factors, which so many layers share alike.
  static int64_t Places(int64_t left, int64_t layers, int64_t expert_bytes,
                        int64_t experts) {
    return std::clamp<int64_t>(left / layers / expert_bytes, 0, experts);
  }

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
