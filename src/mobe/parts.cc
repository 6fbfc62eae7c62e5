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
    {"bases", "bases that experts share, where they are stored whole", kBases},
    {"dense", "shared experts, and layers without experts", kDense},
    {"attention", "all matrices of attention", kAttention},
    {"embedding", "the embedding, and the head where it is the same",
     kEmbedding},
    {"head", "the output layer", kHead}};

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
  const bool all = rule.parts.empty();
  if (!all && std::ranges::count(rule.parts, part) == 0) return nullptr;
  const FormatRow* int8 = &RowOf(NumberFormat::kInt8);
  const bool is_end =
      spec.role == Role::kEmbedding || spec.role == Role::kOutput;
  if (all && is_end && rule.format->bits < 8) return int8;
  if (PlaneShapesOf(*rule.format, spec.shape)) return rule.format;
  return PlaneShapesOf(*int8, spec.shape) ? int8 : nullptr;
}

}  // namespace mobe
