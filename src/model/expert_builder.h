// Computes the matrices of factored experts, W = A f(sum alpha B).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/weights.h"

namespace mobe {

// Bytes of one built expert: of the matrices that are factored. `format` as of
// ExpertBuilder.
int64_t BuiltExpertBytes(const LayerWeights& weights,
                         std::optional<NumberFormat> format);

class ExpertBuilder {
 public:
  // Matrices are computed in float32 and rounded to `format`, or else to what A
  // is stored in (bfloat16 where that is F16 or F8). Multiplies low-rank bases
  // out and keeps them, in float32. The weights must outlive the object.
  ExpertBuilder(const LayerWeights& weights,
                std::optional<NumberFormat> format);

  // Builds experts, each into BuiltExpertBytes of memory, and returns their
  // matrices: those that are not factored as they are stored. In parallel.
  std::vector<MlpWeights> Build(std::span<const int64_t> experts,
                                std::span<std::byte* const> memory) const;

 private:
  struct Kind {
    const KindMembers* members;
    std::vector<StoredBases> bases;  // of each group, no products
    int64_t rows, cols;              // of W
    int64_t at;                      // in an expert's memory
  };

  WeightView BuildMatrix(const Kind& kind, int64_t expert,
                         std::byte* memory) const;

  const LayerWeights& weights_;
  const std::optional<NumberFormat> format_;
  std::vector<Kind> kinds_;
  std::vector<Buffer<float>> products_;
};

}  // namespace mobe
