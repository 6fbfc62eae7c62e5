// The parts of a model whose matrices may be stored in few bits, as users name
// them. What is in no part stays as it is: routers, norms and alphas are small,
// and a router's rounding would change which experts run; low-rank bases are
// small, too, and are multiplied out before anything else.
#pragma once

#include <span>
#include <string_view>

#include "families/family.h"

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

}  // namespace mobe
