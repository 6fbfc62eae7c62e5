// What the kernels' tests need of the rest of the library, without what would have
// to be there for another processor, too: Highway's sets and ICU.
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/kernels_internal.h"

namespace mobe {

std::vector<KernelSet> SimdKernels() { return {}; }

std::string OneLine(std::string message) { return message; }

}  // namespace mobe
