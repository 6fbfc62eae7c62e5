#include "mobe/parts.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <iterator>

#include "base/error.h"
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

PartFormat PartFormatOf(const std::string& text) {
  const auto fail = [&] {
    std::string parts;
    for (const QuantPart& part : kQuantParts) {
      parts += fmt::format("{}{}", parts.empty() ? "" : ", ", part.name);
    }
    Fail(ErrorKind::kUserInput,
         "{} is no part and format, as down=int5, or down.0-3=int5 of some "
         "layers; parts are {}",
         text, parts);
  };
  const size_t equals = text.find('=');
  if (equals == std::string::npos) fail();
  PartFormat one;
  one.format = FormatFromName(text.substr(equals + 1));
  const std::string where = text.substr(0, equals);
  const size_t dot = where.find('.');
  one.part = QuantPartFromName(where.substr(0, dot));
  if (one.part == nullptr || one.format == nullptr || !one.format->packed()) {
    fail();
  }
  if (dot == std::string::npos) return one;
  const char* at = where.data() + dot + 1;
  const char* const end = where.data() + where.size();
  const auto number = [&](int64_t* value) {
    const auto [next, error] = std::from_chars(at, end, *value);
    if (error != std::errc() || *value < 0) fail();
    at = next;
  };
  number(&one.first_layer);
  one.last_layer = one.first_layer;
  if (at != end && *at == '-') {
    ++at;
    number(&one.last_layer);
  }
  if (at != end || one.last_layer < one.first_layer) fail();
  return one;
}

std::string TextOf(const PartFormat& one) {
  std::string layers;
  if (one.first_layer >= 0) {
    layers = fmt::format(".{}", one.first_layer);
    if (one.last_layer != one.first_layer) {
      layers += fmt::format("-{}", one.last_layer);
    }
  }
  return fmt::format("{}{}={}", one.part->name, layers, one.format->name);
}

const FormatRow* FormatFor(const TensorSpec& spec, const PackRule& rule) {
  const QuantPart* part = QuantPartOf(spec);
  if (part == nullptr) return nullptr;
  const FormatRow* format = rule.format;
  const auto other = std::find_if(
      rule.others.rbegin(), rule.others.rend(), [&](const PartFormat& one) {
        return one.part == part && one.first_layer <= spec.layer &&
               spec.layer <= one.last_layer;
      });
  if (other != rule.others.rend()) {
    format = other->format;
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
