// The memory that a fit takes on a device of PyTorch, in bytes as ATen counts
// them, and what follows from it.
#pragma once

#include <cstdint>

#include "fit/method.h"

namespace mobe::torch {

struct MemoryPlan {
  int64_t chunk = 1;
  bool target_on_host = false;
  int64_t bytes = 0;  // of the device; more than there are where nothing helps
};

// For a device of which `free` bytes are free, and a chunk that takes at most
// `work`. `resident`: the target takes memory of the device.
MemoryPlan PlanMemory(const FitShape& shape, bool has_half, bool resident,
                      int64_t free, int64_t work);

inline int64_t TargetBytes(const FitShape& shape) {
  return 4 * shape.experts * shape.rows * shape.cols;
}

}  // namespace mobe::torch
