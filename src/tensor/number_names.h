// How programs and papers call numbers: people type what they are used to.
#pragma once

#include <algorithm>
#include <string_view>

namespace mobe {

// Whether both are names of the same numbers.
inline bool NameTheSame(std::string_view a, std::string_view b) {
  constexpr std::string_view kNames[][3] = {{"float32", "fp32", "f32"},
                                            {"bfloat16", "bf16", "BF16"}};
  return a == b || std::ranges::any_of(kNames, [&](const auto& names) {
           return std::ranges::count(names, a) != 0 &&
                  std::ranges::count(names, b) != 0;
         });
}

}  // namespace mobe
