#include "base/testing.h"

namespace mobe {

// The only unit that knows the folder: so the objects of all others are the
// same in every checkout, and a compiler cache finds them.
std::filesystem::path SourcePath(std::string_view name) {
  return std::filesystem::path(MOBE_SOURCE_DIR) / name;
}

}  // namespace mobe
