// What the tests of this folder share: compress, small and quick.
#pragma once

#include <filesystem>

#include "compress/compress.h"
#include "fit/testing.h"
#include "mobe/testing.h"

namespace mobe {

// Options of a compress that takes milliseconds.
inline CompressOptions QuickOptions(int64_t num_bases) {
  CompressOptions options;
  options.num_bases = num_bases;
  options.budget = {2, 0};
  return options;
}

inline CompressReport RunCompress(
    const std::filesystem::path& model, const CompressOptions& options,
    const std::filesystem::path& out,
    const ProgressFn& progress = [](const ProgressEvent&) {}) {
  const OneThread one_thread;
  const OpenedModel opened = OpenModel(model);
  return Compress(opened, PlanCompression(opened, options), out, progress,
                  nullptr);
}

}  // namespace mobe
