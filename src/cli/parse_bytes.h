// Sizes, as options take them.
#pragma once

#include <cstdint>
#include <string>

namespace mobe {

// "12GB", "800 MB", "1.5GiB", or bytes. Fails with kUserInput, naming the
// option.
int64_t ParseBytes(const std::string& option, const std::string& text);

}  // namespace mobe
