#include "text/oniguruma.h"

#include <fmt/format.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/unicode_16.h"

namespace mobe {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsLetter(char c) { return IsUpper(c) || (c >= 'a' && c <= 'z'); }
bool IsAsciiPunctuation(char c) {
  return c > ' ' && c < 0x7f && !IsDigit(c) && !IsLetter(c);
}
bool IsHex(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

struct Rule {
  std::string_view from;
  std::string_view to;
};

// Escapes of a class of characters; the capital letter is its complement.
struct ClassEscape {
  const char* members;  // as within brackets
  uint32_t categories;  // whose new characters belong to it
  char letter;
};
constexpr ClassEscape kClassEscapes[] = {
    {R"(\p{Nd})", U_GC_ND_MASK, 'd'},
    {R"(\p{White_Space})", 0, 's'},
    {R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})",
     U_GC_L_MASK | U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK, 'w'},
    {"0-9a-fA-F", 0, 'h'},
};

// Escapes of one control character.
constexpr Rule kCharacterEscapes[] = {
    {"n", R"(\n)"}, {"r", R"(\r)"}, {"t", R"(\t)"},
    {"f", R"(\f)"}, {"a", R"(\a)"}, {"v", R"(\x0b)"},
};

// What may follow "(".
constexpr std::string_view kGroups[] = {"?:", "?i:", "?=",  "?!",
                                        "?>", "?<=", "?<!", "?-i:"};

// \p{...} that POSIX names in Oniguruma, with other members than in ICU.
constexpr std::string_view kPosixNames[] = {
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph",
    "lower", "print", "punct", "space", "upper", "word",  "xdigit"};

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& where)
      : pattern_(pattern), where_(where) {}

  std::string Run() {
    // Elsewhere than at the start, Ruby's (?i) also changes how far "|"
    // reaches.
    if (Take("(?i)")) out_ += "(?i)";
    while (!AtEnd()) Item();
    return std::move(out_);
  }

 private:
  bool AtEnd() const { return i_ == pattern_.size(); }
  char Peek(size_t ahead = 0) const {
    return i_ + ahead < pattern_.size() ? pattern_[i_ + ahead] : '\0';
  }
  bool Take(std::string_view text) {
    if (!pattern_.substr(i_).starts_with(text)) return false;
    i_ += text.size();
    return true;
  }
  [[noreturn]] void Refuse(std::string_view what) const {
    Fail(ErrorKind::kUnsupported,
         "{}: {} at byte {} of the pattern {} is not supported", where_, what,
         i_, pattern_);
  }

  void Item() {
    switch (Peek()) {
      case '\\':
        Escape(/*in_brackets=*/false);
        break;
      case '[':
        Class();
        break;
      case '(':
        Group();
        break;
      case '{':
        Interval();
        break;
      case ']':
      case '}':
        out_.push_back('\\');
        [[fallthrough]];
      default:
        out_.push_back(pattern_[i_++]);
    }
  }

  // Returns whether the escape is of one character and so can end a range.
  bool Escape(bool in_brackets) {
    ++i_;
    if (AtEnd()) Refuse("\\ at the end");
    const char c = Peek();
    if (IsAsciiPunctuation(c) || c == ' ') {
      out_ += {'\\', c};
      ++i_;
      return true;
    }
    for (const Rule& rule : kCharacterEscapes) {
      if (!Take(rule.from)) continue;
      out_ += rule.to;
      return true;
    }
    for (const ClassEscape& escape : kClassEscapes) {
      if ((c | 0x20) != escape.letter) continue;
      ++i_;
      std::string members = escape.members + NewMembers(escape.categories);
      // Outside brackets, Oniguruma asks a table of Latin-1 that has ¼ and so
      // on among the word characters.
      if (escape.letter == 'w' && !in_brackets) {
        members += R"(\u00B2\u00B3\u00B9\u00BC-\u00BE)";
      }
      Members(IsUpper(c), members);
      return false;
    }
    if (c == 'x' || c == 'u') {
      Hex();
      return true;
    }
    if ((c != 'p' && c != 'P') || Peek(1) != '{') Refuse("this escape");
    Property();
    return false;
  }

  // \xHH below 0x80 (above, Oniguruma means a byte), \x{H...}, \uHHHH.
  void Hex() {
    const bool braces = Peek(1) == '{';
    const size_t first = i_ + (braces ? 2 : 1);
    size_t end = first;
    while (end < pattern_.size() && IsHex(pattern_[end])) ++end;
    const std::string_view digits = pattern_.substr(first, end - first);
    if (Peek() == 'u') {
      if (digits.size() < 4) Refuse("this escape");
      out_ += fmt::format("\\u{}", digits.substr(0, 4));
      i_ = first + 4;
    } else if (braces) {
      if (digits.empty() || digits.size() > 8 || end == pattern_.size() ||
          pattern_[end] != '}') {
        Refuse("this escape");
      }
      out_ += fmt::format("\\x{{{}}}", digits);
      i_ = end + 1;
    } else {
      if (digits.size() < 2 || digits[0] > '7') Refuse("this escape");
      out_ += fmt::format("\\x{}", digits.substr(0, 2));
      i_ = first + 2;
    }
  }

  // \p{L}, \P{L}, \p{^L}: general categories, scripts and White_Space.
  void Property() {
    const size_t close = pattern_.find('}', i_);
    if (close == std::string_view::npos) Refuse("\\p{ without }");
    std::string_view name = pattern_.substr(i_ + 2, close - i_ - 2);
    bool negated = Peek() == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    std::string lower;
    for (const char c : name) {
      if (!IsLetter(c) && c != '_') Refuse("this property");
      lower.push_back(IsUpper(c) ? static_cast<char>(c | 0x20) : c);
    }
    const int32_t categories =
        u_getPropertyValueEnum(UCHAR_GENERAL_CATEGORY_MASK, lower.c_str());
    const bool known = categories != UCHAR_INVALID_CODE ||
                       lower == "white_space" ||
                       u_getPropertyValueEnum(UCHAR_SCRIPT, lower.c_str()) !=
                           UCHAR_INVALID_CODE;
    if (!known ||
        std::ranges::find(kPosixNames, lower) != std::end(kPosixNames)) {
      Refuse("this property");
    }
    i_ = close + 1;
    std::string members = fmt::format("\\p{{{}}}", name);
    if (categories != UCHAR_INVALID_CODE) {
      const auto mask = static_cast<uint32_t>(categories);
      // For ICU the new characters are unassigned.
      if ((mask & U_GC_CN_MASK) != 0) {
        members += fmt::format("--[{}]", NewMembers(~mask));
      } else {
        members += NewMembers(mask);
      }
    }
    if (lower == "han") members += kNewHan;
    Members(negated, members);
  }

  void Members(bool negated, const std::string& members) {
    out_ += fmt::format("[{}{}]", negated ? "^" : "", members);
  }

  void Group() {
    ++i_;
    out_.push_back('(');
    if (Peek() != '?') return;
    for (const std::string_view group : kGroups) {
      if (!Take(group)) continue;
      out_ += group;
      return;
    }
    Refuse("this kind of group");
  }

  // {n}, {n,}, {n,m}, with "?" for the last two.
  void Interval() {
    size_t end = i_ + 1;
    const auto digits = [&] {
      const size_t begin = end;
      while (end < pattern_.size() && IsDigit(pattern_[end])) ++end;
      return end - begin;
    };
    bool exact = true;
    const size_t minimum_digits = digits();
    size_t maximum_digits = 0;
    if (end < pattern_.size() && pattern_[end] == ',') {
      exact = false;
      ++end;
      maximum_digits = digits();
    }
    // 4 digits bound what the pattern can make ICU do.
    if (minimum_digits == 0 || minimum_digits > 4 || maximum_digits > 4 ||
        end == pattern_.size() || pattern_[end] != '}') {
      Refuse("this interval");
    }
    out_ += pattern_.substr(i_, end + 1 - i_);
    i_ = end + 1;
    if (Peek() == '+' || (Peek() == '?' && exact)) {
      Refuse("this mark after an interval");
    }
  }

  // One member of a bracketed class that is a single character; appends it.
  // Returns false when it was a class of its own (\p{L}).
  bool ClassCharacter() {
    if (Peek() == '\\') return Escape(/*in_brackets=*/true);
    if (IsAsciiPunctuation(Peek())) out_.push_back('\\');
    out_.push_back(pattern_[i_++]);
    // The other bytes of a character beyond ASCII.
    while (!AtEnd() && (Peek() & 0xc0) == 0x80) out_.push_back(pattern_[i_++]);
    return true;
  }

  // [...], nested at most kMaxClassDepth deep.
  void Class(int depth = 0) {
    constexpr int kMaxClassDepth = 16;
    if (depth == kMaxClassDepth) Refuse("this nesting of brackets");
    Take("[");
    out_.push_back('[');
    if (Take("^")) out_.push_back('^');
    if (Peek() == ']') Refuse("] as the first character in brackets");
    for (;;) {
      if (AtEnd()) Refuse("[ without ]");
      if (Take("]")) break;
      if (Take("&&")) {
        out_ += "&&";
        continue;
      }
      if (Peek() == '[') {
        if (Peek(1) == ':') Refuse("[:");
        Class(depth + 1);
        continue;
      }
      const bool single = ClassCharacter();
      if (Peek() != '-' || Peek(1) == ']') continue;
      if (!single || Peek(1) == '[' || AtEnd()) Refuse("- after a class");
      ++i_;
      out_.push_back('-');
      if (!ClassCharacter()) Refuse("a range to a class");
    }
    out_.push_back(']');
  }

  std::string_view pattern_;
  const std::string& where_;
  size_t i_ = 0;
  std::string out_;
};

}  // namespace

std::string TranslateOniguruma(std::string_view pattern,
                               const std::string& where) {
  return Translator(pattern, where).Run();
}

std::string EscapeRegex(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\.+*?()|[]{}^$#&-~").find(c) !=
        std::string_view::npos) {
      out.push_back('\\');
    }
    out.push_back(c);
  }
  return out;
}

}  // namespace mobe
