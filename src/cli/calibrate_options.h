// Options of commands that calibrate: run the model on a text first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/command.h"
#include "compress/compress.h"
#include "model/moments.h"

namespace mobe {

struct CalibrateOptions {
  std::string file;  // empty: no calibration; "random": random token ids
  int64_t max_tokens = 65536;
  int64_t context = 512;
};

// Adds the two options of these names; returns them.
std::vector<CLI::Option*> AddTokenOptions(CLI::App* command,
                                          const std::string& max_tokens,
                                          const std::string& context,
                                          CalibrateOptions* options);

// Adds --calibrate, --calibrate-tokens and --calibrate-context. `readers` are
// those whose inputs weigh errors.
void AddCalibrateOptions(CLI::App* command, const std::string& readers,
                         CalibrateOptions* options);

// Those of the options, or of `random` without any. Fails as ToCalibration.
std::vector<int32_t> ReadTokens(const CalibrateOptions& options,
                                const OpenedModel& model);

// Reads the text with the model's tokenizer. `model` must outlive the result.
// Fails with kUserInput when there are no tokens in it.
Calibration ToCalibration(const CalibrateOptions& options,
                          const OpenedModel& model, CalibrationScope scope);
// What mobe calibrate wrote instead: it is copied. Fails with kUserInput when
// it is of another model.
Calibration CalibrationFrom(const std::string& file, const OpenedModel& model);

}  // namespace mobe
