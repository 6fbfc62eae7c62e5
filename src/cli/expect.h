// What values options take, checked when they are parsed: before any work, exit
// code 2, "--ratio 0: expected a number above 0 and below 1".
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace mobe {

// Decimal digits that make a number from `least` to `most`.
CLI::Option* ExpectWhole(CLI::Option* option, uint64_t least,
                         uint64_t most = INT64_MAX);

// A finite number for which `fits`; `expected` says which, as "a number above
// 0".
CLI::Option* ExpectNumber(CLI::Option* option, const std::string& expected,
                          bool (*fits)(double));

// One of these names, which --help lists, too, or another name of the same
// numbers (tensor/number_names.h).
CLI::Option* ExpectOneOf(CLI::Option* option,
                         const std::vector<std::string>& names);

// What `parse` does not throw an Error for.
CLI::Option* ExpectForm(CLI::Option* option,
                        std::function<void(const std::string&)> parse);

// A model's folder, or its name on the hub, which becomes its folder in the
// cache (io/hub.h). Required where it is not an option by name.
CLI::Option* ExpectModel(CLI::Option* option);

// Anything but nothing, for each option that takes a value, but for those that
// may be empty. An unset variable of a script is then no default.
void ExpectValues(CLI::App* command);

}  // namespace mobe
