// Families whose experts mobe factors without running them: compress, verify,
// reconstruct and report ask only where gate, up and down are.
#pragma once

#include <span>

#include "families/family.h"

namespace mobe {

std::span<const Family> FactoredOnly();

}  // namespace mobe
