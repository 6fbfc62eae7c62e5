#include "mobe/parts.h"

#include <algorithm>

namespace mobe {
namespace {

constexpr Role kExperts[] = {Role::kExpertGate, Role::kExpertUp};
constexpr Role kDown[] = {Role::kExpertDown};
constexpr Role kBases[] = {Role::kGateBases, Role::kUpBases, Role::kDownBases};
constexpr Role kDense[] = {Role::kSharedGate, Role::kSharedUp,
                           Role::kSharedDown, Role::kDenseGate,
                           Role::kDenseUp,    Role::kDenseDown};
constexpr Role kAttention[] = {
    Role::kQuery,    Role::kKey,        Role::kValue,
    Role::kQueryUp,  Role::kQueryDown,  Role::kAttentionOutput,
    Role::kLatentUp, Role::kLatentDown, Role::kQueryKeyValue};
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

}  // namespace mobe
