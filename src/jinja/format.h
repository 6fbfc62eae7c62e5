// Python's two ways to put values into a text.
#pragma once

#include <string>

#include "jinja/runtime.h"

namespace mobe::jinja {

// format % values: "%s, %-5d, %(name)s". `values` is a tuple, a dict or one
// value. Fails with kUserInput where Python does, with kUnsupported for %a.
std::string FormatPercent(const std::string& format, const Value& values,
                          Runtime& runtime);

// format.format(...): "{}, {0.name!r:>5}, {key[0]:.2f}". Attributes are those
// that a template may read. Fails with kUserInput where Python does, with
// kUnsupported for !a, n, and floats with a precision but no type.
std::string FormatBraces(const std::string& format, const Arguments& arguments,
                         Runtime& runtime);

}  // namespace mobe::jinja
