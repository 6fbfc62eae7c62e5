#include "mobe/packed_model.h"

#include <algorithm>

#include "io/fp8.h"
#include "mobe/modeling_file.h"

namespace mobe {

bool HasPacked(const OpenedModel& model) {
  return std::ranges::any_of(model.tensors, [&](const TensorSpec& spec) {
    return model.checkpoint.At(spec.name).packed != nullptr;
  });
}

Json PackedConfig(const Json& config, const std::optional<MobeFormat>& mobe,
                  const std::set<std::string>& formats) {
  if (formats.empty()) return config;
  Json packed = PlainConfig(config);
  packed["mobe"] = mobe ? FormatTable(*mobe) : Json::object();
  packed["mobe"]["version"] = kFormatVersion;
  packed["mobe"]["packed"] = formats;
  AddAutoMap(&packed);
  return packed;
}

}  // namespace mobe
