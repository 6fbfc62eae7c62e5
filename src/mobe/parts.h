// The parts of a model whose matrices may be stored in few bits, as users name
// them. What is in no part stays as it is: routers, norms and alphas are small,
// and a router's rounding would change which experts run; low-rank bases are
// small, too, and are multiplied out before anything else.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "families/family.h"
#include "fit/refit.h"
#include "tensor/format.h"

namespace mobe {

struct QuantPart {
  const char* name;   // "attention"
  const char* about;  // of which matrices
  std::span<const Role> roles;
  // Few parameters, of which all tokens or all experts are made.
  bool is_shared = false;
};
std::span<const QuantPart> QuantParts();
// Null when there is none of that name.
const QuantPart* QuantPartFromName(std::string_view name);
// That which a tensor belongs to; null for what stays as it is.
const QuantPart* QuantPartOf(const TensorSpec& spec);

// A part, of some layers, in a format of its own.
struct PartFormat {
  const QuantPart* part = nullptr;
  const FormatRow* format = nullptr;
  // Inclusive; a part that is in no layer has the layer -1.
  int64_t first_layer = INT64_MIN;
  int64_t last_layer = INT64_MAX;
};
// "down=int5" is of all layers, "down.3=int5" and "down.3-7=int5" are of those.
// Fails with kUserInput, saying what there is.
PartFormat PartFormatOf(const std::string& text);
std::string TextOf(const PartFormat& one);

// Which matrices are to be in how many bits.
struct PackRule {
  const FormatRow* format = nullptr;  // a packed one
  // Parts that are quantised; empty: all, shared ones in 8 bits at least.
  std::vector<const QuantPart*> parts = {};
  // Parts that are quantised to another format; the last that fits holds.
  std::vector<PartFormat> others = {};
  // By a text: passes over all experts by which bases are moved first
  // (fit/refit.h).
  int64_t refit_passes = kRefitPasses;
};
// The format that a tensor is to have; null when it stays as it is.
const FormatRow* FormatFor(const TensorSpec& spec, const PackRule& rule);

}  // namespace mobe
