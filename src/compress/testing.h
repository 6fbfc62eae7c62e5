// What the tests of this folder share: compress, small and quick.
#pragma once

#include <gtest/gtest.h>

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

// The recipe and the card: how a folder was made.
inline bool TellsHow(const std::filesystem::path& file) {
  return file == "recipe.json" || file.extension() == ".md";
}

// Each file of `expected` is in `folder` with the same bytes, but for those
// that are left out.
inline void ExpectSameFiles(
    const std::filesystem::path& expected, const std::filesystem::path& folder,
    bool (*is_left_out)(const std::filesystem::path& file) = nullptr) {
  for (const auto& entry : std::filesystem::directory_iterator(expected)) {
    const std::filesystem::path file = entry.path().filename();
    if (is_left_out != nullptr && is_left_out(file)) continue;
    EXPECT_EQ(ReadSmallFile(folder / file), ReadSmallFile(entry.path()))
        << file;
  }
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
