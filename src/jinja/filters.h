// What the files of filters share.
#pragma once

#include <span>
#include <vector>

#include "jinja/runtime.h"

namespace mobe::jinja {

// Tables of filters: of lists and dicts; of texts and numbers.
std::span<const NamedFunction> ListFilters();
std::span<const NamedFunction> TextFilters();

bool IsIterator(const Value& value);
// The items that a filter gives an iterator of. It would go through an iterator
// of its own when it is gone through itself, which can't be seen unless
// somebody else does meanwhile: hence Sequence::lent.
std::vector<Value> Borrowed(Call& call, const Value& value);

}  // namespace mobe::jinja
