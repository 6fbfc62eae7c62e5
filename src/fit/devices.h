// Devices by their names: those of --device.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fit/device.h"

namespace mobe {

// "cpu", "cuda" (the first card), "cuda:1", "cuda:all", "auto" (cuda where
// there is a card that this build can use, else cpu), and "torch-cpu",
// PyTorch's kernels on the processors, which is for tests. Fails with
// kUserInput where there is no such device, and with kUnsupported where this
// build has no PyTorch.
//
// `place`: this process' number among those of the job on its machine, which
// share the cards: "cuda" and "auto" are then the card of that number.
std::vector<FitDevice*> FindDevices(const std::string& name, int place = 0);

// Fails with kOutOfMemory where less of the device's own memory is free.
void CheckDeviceMemory(const FitDevice& device, int64_t bytes);

// "cpu, cuda (2 cards; PyTorch 2.9.1)": for --version.
std::string ListDevices();

}  // namespace mobe
