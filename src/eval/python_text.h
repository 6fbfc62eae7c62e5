// What Python's methods of strings do, on UTF-8.
#pragma once

#include <string>
#include <string_view>

namespace mobe {

// str.isspace() of one character, which is not the white space of Unicode.
bool IsPythonSpace(char32_t c);

// str.rstrip() and str.strip()
std::string PythonRStrip(std::string_view text);
std::string PythonStrip(std::string_view text);

// str.capitalize(): the first character large, all others small.
std::string PythonCapitalize(std::string_view text);

// str.replace(what, with)
std::string Replaced(std::string_view text, std::string_view what,
                     std::string_view with);

}  // namespace mobe
