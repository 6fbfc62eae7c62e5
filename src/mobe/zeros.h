// Zeros where weights should be, as a download leaves them that has made room
// for a file and not filled it. No size and no checksum of ours can show that.
#pragma once

#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "mobe/tensors.h"

namespace mobe {

// Whether a tensor looks so: zero in half of it, or in 1 MiB at a stretch.
// Biases don't: many are zero, and nothing is lost by it.
bool LooksUnwritten(const TensorView& tensor, const TensorScan& scan);

// One line that counts the tensors of `names` and names the first; empty when
// there are none. `names` in any order.
std::string UnwrittenWarning(const Checkpoint& checkpoint,
                             std::vector<std::string> names);

}  // namespace mobe
