// An estimate in JSON: under a key, and its standard error, null where it is
// not known, under the key + "_stderr".
#pragma once

#include <limits>
#include <string>

#include "base/json.h"
#include "eval/statistics.h"

namespace mobe {

inline void AddEstimate(const std::string& key, const Estimate& estimate,
                        Json* json) {
  (*json)[key] = estimate.value;
  (*json)[key + "_stderr"] = estimate.error;
}

inline Estimate ReadEstimate(const Json& json, const std::string& key) {
  const auto number = [](const Json& value) {
    return value.is_null() ? std::numeric_limits<double>::quiet_NaN()
                           : value.get<double>();
  };
  return {number(json.at(key)), number(json.at(key + "_stderr"))};
}

}  // namespace mobe
