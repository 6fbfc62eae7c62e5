// The parts of a model whose matrices may be stored in few bits, as users name
// them. What is in no part stays as it is: routers, norms and alphas are small,
// and a router's rounding would change which experts run; low-rank bases are
// small, too, and are multiplied out before anything else.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "families/family.h"
#include "tensor/format.h"

namespace mobe {

struct QuantPart {
  const char* name;   // "attention"
  const char* about;  // of which matrices
  std::span<const Role> roles;
};
std::span<const QuantPart> QuantParts();
// Null when there is none of that name.
const QuantPart* QuantPartFromName(std::string_view name);
// That which a tensor belongs to; null for what stays as it is.
const QuantPart* QuantPartOf(const TensorSpec& spec);

// Which matrices are to be in how many bits.
struct PackRule {
  const FormatRow* format = nullptr;  // a packed one
  // Parts that are quantised; empty: all. Embedding and head take 8 bits at
  // least unless they are named: few parameters, of which every token's logits
  // are made. Bases take 8 bits in any case: they have no other form.
  std::vector<const QuantPart*> parts;
};
// The format that a tensor is to have; null when it stays as it is.
const FormatRow* FormatFor(const TensorSpec& spec, const PackRule& rule);

}  // namespace mobe
