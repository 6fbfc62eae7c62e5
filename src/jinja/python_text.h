// Text as Python's str has it: characters are code points of well-formed UTF-8.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mobe::python {

bool IsSpace(char32_t c);  // str.isspace of one character

std::u32string Decode(std::string_view text);
std::string Encode(std::u32string_view text);
int64_t Length(std::string_view text);  // in characters

// str.strip and its one-sided forms; without `chars` white space goes.
enum class Sides { kLeft, kRight, kBoth };
std::string_view Strip(std::string_view text, Sides sides,
                       std::optional<std::string_view> chars = std::nullopt);

// Where `part` begins for the first time; npos: nowhere. In linear time, which
// std::string::find is not.
size_t Find(std::string_view text, std::string_view part);

// What takes the parts of a text, one by one.
using AddPart = std::function<void(std::string_view)>;

// str.split and str.rsplit: at most `max_split` cuts, negative: all. Without
// `separator` at runs of white space. The separator is not empty. From the
// right the last part comes first.
enum class From { kLeft, kRight };
void Split(std::string_view text, std::optional<std::string_view> separator,
           int64_t max_split, From from, const AddPart& add);
void SplitLines(std::string_view text, const AddPart& add);

// str.replace, at most `count` times, negative: all.
std::string Replace(std::string_view text, std::string_view old,
                    std::string_view replacement, int64_t count);

std::string Upper(std::string_view text);
std::string Lower(std::string_view text);
std::string Title(std::string_view text);       // words begin in upper case
std::string Capitalize(std::string_view text);  // the text does

// A number as int() and float() take it, but with ASCII digits only and without
// white space, "+" and underscores; nothing for what has those where they can't
// be.
std::optional<std::string> PlainNumber(std::string_view text);
std::optional<double> ReadFloat(std::string_view text);

// str.isdigit and the like, of one character.
bool IsDigit(char32_t c);
bool IsDecimal(char32_t c);
bool IsNumeric(char32_t c);
bool IsAlpha(char32_t c);
bool IsAlnum(char32_t c);
bool IsPrintable(char32_t c);
// str.islower, str.isupper: of what is cased, and of some of it.
bool IsLower(std::string_view text);
bool IsUpper(std::string_view text);

std::string Repr(std::string_view text);  // repr(): quoted, escaped

std::string EscapeHtml(std::string_view text);  // as markupsafe's escape does

// `text` in the middle of `width` characters, or at a side.
enum class Side { kLeft, kRight, kMiddle };
std::string Justify(std::string_view text, int64_t width, std::string_view fill,
                    Side side);
std::string Repr(double value);  // the shortest that reads back

}  // namespace mobe::python
