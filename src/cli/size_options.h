// --bytes and --bpw: the size that a model is to keep to.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "cli/calibrate_options.h"
#include "mobe/open_model.h"

namespace mobe {

struct SizeOptions {
  std::string bytes;           // one of these, or neither
  double bits_per_weight = 0;  // of all weights

  bool given() const { return !bytes.empty() || bits_per_weight > 0; }
};

void AddSizeOptions(CLI::App* command, SizeOptions* options);

// Fails with kUserInput where one of them is given without a text.
void CheckHasText(const SizeOptions& options, const CalibrateOptions& calibrate,
                  const std::string& moments);

// Of an original.
int64_t BytesOf(const SizeOptions& options, const OpenedModel& model);

}  // namespace mobe
