// The bases of one layer and kind, as they are stored: whole, as products, or
// in 8 bits. Who mixes them asks mix_batch.h, and knows no form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "kernels/kernels.h"
#include "tensor/packed_bases.h"
#include "tensor/weight_view.h"

namespace mobe {

// Numbers, or their scales, in memory.
using Plane = std::span<const std::byte>;

// B_i = U_i V_i: U [m, rank, k] and V [m, k, cols].
struct BasesProducts {
  BasesView left, right;
};

struct StoredBases {
  StoredBases() = default;
  explicit StoredBases(const BasesView& whole)
      : num_bases(whole.num_bases),
        rank(whole.rank),
        cols(whole.cols),
        form(whole),
        rows{whole.dtype == DType::kBF16 ? NumberFormat::kBF16
                                         : NumberFormat::kF32,
             whole.data, whole.num_bases * whole.rank, whole.cols} {}
  explicit StoredBases(const BasesProducts& products)
      : num_bases(products.left.num_bases),
        rank(products.left.rank),
        cols(products.right.cols),
        form(products) {}
  explicit StoredBases(const PackedBases& packed)
      : num_bases(packed.num_bases),
        rank(packed.rank),
        cols(packed.cols),
        form(packed) {}

  bool AreProducts() const {
    return std::holds_alternative<BasesProducts>(form);
  }
  int64_t bytes() const;
  std::vector<Plane> Planes() const;

  int64_t num_bases = 0;
  int64_t rank = 0;
  int64_t cols = 0;
  std::variant<BasesView, BasesProducts, PackedBases> form;
  // The rows of all bases as one matrix, [num_bases * rank, cols], where they
  // are stored so, too; else without codes.
  WeightView rows = {};
};

}  // namespace mobe
