#include "mobe/parts.h"

#include <algorithm>
#include <iterator>

#include "tensor/planes.h"

namespace mobe {
namespace {

constexpr Role kExperts[] = {Role::kExpertGate, Role::kExpertUp};
constexpr Role kDown[] = {Role::kExpertDown};
constexpr Role kBases[] = {Role::kGateBases, Role::kUpBases, Role::kDownBases};
constexpr Role kDense[] = {Role::kSharedGate, Role::kSharedUp,
                           Role::kSharedDown, Role::kDenseGate,
                           Role::kDenseUp,    Role::kDenseDown};
constexpr Role kAttention[] = {
    Role::kQuery, Role::kKey, Role::kValue, Role::kQueryUp, Role::kQueryDown,
    Role::kAttentionOutput, Role::kLatentUp, Role::kLatentDown,
    Role::kQueryKeyValue,
    // Not those of the rates: small, and they decide what is forgotten.
    Role::kDeltaQueryKeyValue, Role::kDeltaGate, Role::kDeltaInputs,
    Role::kDeltaOutput};
constexpr Role kEmbedding[] = {Role::kEmbedding};
constexpr Role kHead[] = {Role::kOutput};

constexpr QuantPart kQuantParts[] = {
    {"a", "gate and up of the experts, or what is left of them beside bases",
     kExperts},
    {"down", "down of the experts", kDown},
    {"bases", "bases that experts share, where they are stored whole", kBases,
     /*is_shared=*/true},
    {"dense", "shared experts, and layers without experts", kDense},
    {"attention", "all matrices of attention", kAttention},
    {"embedding", "the embedding, and the head where it is the same",
     kEmbedding, /*is_shared=*/true},
    {"head", "the output layer", kHead, /*is_shared=*/true}};

}  // namespace

std::span<const QuantPart> QuantParts() { return kQuantParts; }

const QuantPart* QuantPartFromName(std::string_view name) {
  const auto found = std::ranges::find(
      kQuantParts, name,
      [](const QuantPart& part) { return std::string_view(part.name); });
  return found == std::end(kQuantParts) ? nullptr : &*found;
}

const QuantPart* QuantPartOf(const TensorSpec& spec) {
  if (spec.shape.size() < 2) return nullptr;
  const auto found =
      std::ranges::find_if(kQuantParts, [&](const QuantPart& part) {
        return std::ranges::count(part.roles, spec.role) > 0;
      });
  return found == std::end(kQuantParts) ? nullptr : &*found;
}

const FormatRow* FormatFor(const TensorSpec& spec, const PackRule& rule) {
  const QuantPart* part = QuantPartOf(spec);
  if (part == nullptr) return nullptr;
  const FormatRow* format = rule.format;
  const auto other = std::ranges::find(
      rule.others, part, [](const auto& one) { return one.first; });
  if (other != rule.others.end()) {
    format = other->second;
  } else if (rule.parts.empty()) {
    if (part->is_shared && format->bits < 8) {
      format = &RowOf(NumberFormat::kInt8);
    }
  } else if (std::ranges::count(rule.parts, part) == 0) {
    return nullptr;
  }
  return PlaneShapesOf(*format, spec.shape) ? format : nullptr;
}

}  // namespace mobe
