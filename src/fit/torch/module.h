// What the program finds in the module that it loads (fit/devices.h).
#pragma once

#include "fit/device.h"

namespace mobe {

struct TorchModule {
  const char* version;  // of PyTorch
  // Cards that it can use.
  int (*cards)();
  // A card, of this model if that is not empty; or with -1 the processors by
  // PyTorch's own kernels, which is for tests, `threads` of them. It lives as
  // long as the program. Fails with kUnsupported.
  FitDevice* (*open)(int card, const char* model, int threads);
};

// The name of a function that gives the table.
inline constexpr char kTorchModuleEntry[] = "mobe_torch_module";

}  // namespace mobe
