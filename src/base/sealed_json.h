// JSON that carries its own checksum: the last member of the object,
// "checksum", is the SHA-256 of all bytes before its line. For files that mobe
// keeps to read again: a changed bit is noticed wherever it is. The object has
// no other member of that name.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace mobe {

// Seals the text of an object, its closing bracket last.
std::string SealText(std::string_view object);

// The object in a sealed text, without the seal. Fails with kCorruptFile when
// text and seal differ, or when it has none.
Json ParseSealed(std::string_view text, const std::string& source);

// True when the text ends as sealed ones do, whatever its seal says.
bool HasSeal(std::string_view text);

}  // namespace mobe
