// quantize --bytes and --bpw: choosing the form of each layer's experts, once
// for a job (compress/bit_choice.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "compress/quantize.h"

namespace mobe {

// What compress made of the model.
struct FactoredForm {
  std::filesystem::path folder;
  Json identity;  // which tells it from others
};
std::vector<FactoredForm> FormsOf(const std::vector<std::string>& folders);

struct BitBudget {
  const char* command = "quantize";
  int64_t bytes = 0;                   // of the model
  std::vector<FactoredForm> factored;  // none: no layer may be factored
  // What is quantised beside the experts, to 8 bits; empty: all.
  std::vector<const QuantPart*> parts = {};
  int64_t refit_passes = kRefitPasses;
};

// What is quantised beside the experts.
PackRule RestOfModel(const BitBudget& budget);

// Whether the job in `out` is finished, with all that it chose. Fails with
// kUserInput where that was asked for something else.
bool IsChosenAndFinished(const OpenedModel& model, const BitBudget& budget,
                         const Calibration& calibration,
                         const std::filesystem::path& out);

// Sets the rule of `quantize`, which has a calibration, and what it was asked
// for; gives it a model of some layers factored where the choice has such,
// which is returned. What the job in `out` chose before holds.
std::optional<OpenedModel> ChooseBitsOnce(const OpenedModel& model,
                                          const BitBudget& budget,
                                          const std::filesystem::path& out,
                                          const ProgressFn& progress,
                                          QuantizeOptions* quantize);

}  // namespace mobe
