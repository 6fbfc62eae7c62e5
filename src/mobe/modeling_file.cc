#include "mobe/modeling_file.h"

#include <utility>

#include "base/embedded.h"

namespace mobe {
namespace {

constexpr char kAutoMap[] = "auto_map";
constexpr char kPlainAutoMap[] = "plain_auto_map";
constexpr char kModelKey[] = "AutoModelForCausalLM";
constexpr char kConfigKey[] = "AutoConfig";
constexpr char kModelClass[] = "modeling_mobe.MobeForCausalLM";
constexpr char kConfigClass[] = "modeling_mobe.MobeConfig";

}  // namespace

std::string_view ModelingFile() { return EmbeddedFile(kModelingFile); }

void AddAutoMap(Json* config) {
  if (HasAutoMap(*config)) return;
  Json map = Json::object();
  if (config->contains(kAutoMap)) {
    const Json& plain = config->at(kAutoMap);
    if (plain.is_object()) map = plain;
    (*config)[kPlainAutoMap] = plain;
  }
  map.erase("AutoModel");
  map[kModelKey] = kModelClass;
  if (map.contains(kConfigKey)) map[kConfigKey] = kConfigClass;
  (*config)[kAutoMap] = std::move(map);
}

void RemoveAutoMap(Json* config) {
  if (!HasAutoMap(*config)) return;
  config->erase(kAutoMap);
  const auto plain = config->find(kPlainAutoMap);
  if (plain == config->end()) return;
  (*config)[kAutoMap] = *plain;
  config->erase(kPlainAutoMap);
}

bool HasAutoMap(const Json& config) {
  const auto map = config.find(kAutoMap);
  return map != config.end() && map->is_object() &&
         map->value(kModelKey, Json()) == kModelClass;
}

bool NeedsOwnCode(const Json& config) {
  const auto map = config.find(HasAutoMap(config) ? kPlainAutoMap : kAutoMap);
  return map != config.end() && map->is_object() && !map->empty();
}

}  // namespace mobe
