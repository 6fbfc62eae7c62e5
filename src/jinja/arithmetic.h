// Operators and slices, as Python has them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "jinja/runtime.h"

namespace mobe::jinja {

// +x, -x.
Value Signed(const std::string& operation, const Value& operand);

// "+", "-", "*", "/", "//", "%", "**". Integers have 64 bits: fails with
// kUserInput or kUnsupported beyond, and for operands that have no such
// operation.
Value Arithmetic(const std::string& operation, const Value& left,
                 const Value& right, Runtime& runtime);

// object[start:stop:step]; fails with kUserInput for what has no slices.
Value SliceOf(const Value& object, std::optional<int64_t> start,
              std::optional<int64_t> stop, std::optional<int64_t> step,
              Runtime& runtime);

}  // namespace mobe::jinja
