// JSON whose objects keep the order of their keys, for what is shown as it
// came.
#pragma once

#include "base/json.h"

namespace mobe {

using OrderedJson = nlohmann::ordered_json;

// As ParseJson; fails with kUnsupported for an object of over 10,000 keys. An
// integer beyond 64 bits keeps its digits, as a binary value of them.
OrderedJson ParseOrderedJson(std::string_view text, const std::string& source);

}  // namespace mobe
