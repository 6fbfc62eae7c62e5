// What quantize and compress --bytes say in the end.
#pragma once

#include <optional>
#include <string>

#include "cli/command.h"
#include "compress/quantize.h"

namespace mobe {

// Nothing for a report: the job had been finished before. Says how many layers
// take factors where `choice`, as in QuantizeOptions, was between forms.
void PrintQuantized(const std::string& out,
                    std::optional<QuantizeReport> report, const Json& choice,
                    double seconds, const CommonOptions& common);

}  // namespace mobe
