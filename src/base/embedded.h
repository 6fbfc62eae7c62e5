// Files that are in the program, as they are; CMakeLists.txt lists them.
#pragma once

#include <string_view>

namespace mobe {

// By its name without folders, "openapi.json"; "": there is none.
std::string_view EmbeddedFile(std::string_view name);

}  // namespace mobe
