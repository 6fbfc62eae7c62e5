// Oniguruma's regular expressions for ICU: Debian's libonig would read them as
// they are, but its Unicode tables would be a second set beside ICU's.
#pragma once

#include <string>
#include <string_view>

namespace mobe {

// The pattern for ICU that matches as `pattern` does in Oniguruma with its
// Ruby syntax, which is what Hugging Face's library uses. The two differ in
// ways that change ids: `\s` is White_Space in Oniguruma but not in ICU (which
// leaves out U+000B and U+0085), `\w` has other members, `\h` is a hexadecimal
// digit, `\v` a vertical tab, `{2,3}+` is not possessive, and "--" or "&" are
// plain characters within brackets. So this lets through what is known to mean
// the same, rewrites what differs, and fails with kUnsupported for the rest;
// `where` names the place.
std::string TranslateOniguruma(std::string_view pattern,
                               const std::string& where);

// A pattern that matches exactly `text`.
std::string EscapeRegex(std::string_view text);

}  // namespace mobe
