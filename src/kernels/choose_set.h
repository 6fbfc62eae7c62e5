// How a set of kernels is chosen that is not one of kernels.h: the best, or the
// one that an environment variable names.
#pragma once

#include <fmt/ranges.h>

#include <cstdlib>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace mobe {

// `sets`, best first, have a `name`. Fails where the variable names none of
// them.
template <class Set>
const Set& ChooseSet(const std::vector<Set>& sets, const char* variable,
                     const char* what) {
  const char* name = std::getenv(variable);
  if (name == nullptr || *name == '\0') return sets.front();
  std::vector<std::string_view> names;
  for (const Set& set : sets) {
    if (std::string_view(name) == set.name) return set;
    names.emplace_back(set.name);
  }
  Fail(ErrorKind::kUserInput,
       "environment variable {}: there is no set \"{}\" of {} on this CPU; use "
       "one of {}",
       variable, name, what, fmt::join(names, ", "));
}

}  // namespace mobe
