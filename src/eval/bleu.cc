#include "eval/bleu.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "base/unicode.h"
#include "eval/python_text.h"

namespace mobe {
namespace {

constexpr size_t kOrders = 4;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsStop(char c) { return c == '.' || c == ','; }
bool IsMark(char c) {
  return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') ||
         (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
         (c >= ':' && c <= '@') || c == '/';
}

// Puts spaces between pairs of characters that fit, from the left, and around
// them. Bytes do for characters: those that fit are ASCII or anything.
template <class First, class Second>
std::string Part(std::string_view text, bool before, bool behind, First first,
                 Second second) {
  std::string parted;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i + 1 == text.size() || !first(text[i]) || !second(text[i + 1])) {
      parted += text[i];
      continue;
    }
    if (before) parted += ' ';
    parted += text[i];
    parted += ' ';
    parted += text[++i];
    if (behind) parted += ' ';
  }
  return parted;
}

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words(1);
  for (size_t size = 0; !text.empty(); text.remove_prefix(size)) {
    const Character c = FirstCharacter(text);
    size = c.size;
    if (!IsPythonSpace(c.value)) {
      words.back() += text.substr(0, size);
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

// What both tokenizers end with.
std::vector<std::string> PartWords(std::string_view text) {
  std::string marks;
  for (const char c : text) {
    if (IsMark(c)) {
      marks += {' ', c, ' '};
    } else {
      marks += c;
    }
  }
  const auto no_digit = [](char c) { return !IsDigit(c); };
  std::string parted = Part(marks, false, true, no_digit, IsStop);
  parted = Part(parted, true, false, IsStop, no_digit);
  parted = Part(parted, false, true, IsDigit, [](char c) { return c == '-'; });
  return Words(parted);
}

std::vector<std::string> Tokens13a(std::string_view text) {
  std::string line = Replaced(text, "<skipped>", "");
  line = Replaced(line, "-\n", "");
  line = Replaced(line, "\n", " ");
  line = Replaced(line, "&quot;", "\"");
  line = Replaced(line, "&amp;", "&");
  line = Replaced(line, "&lt;", "<");
  line = Replaced(line, "&gt;", ">");
  return PartWords(" " + line + " ");
}

// Characters that "zh" takes for Chinese. sacrebleu means the second and third
// last to be U+20000 to U+2A6D6 and U+2F800 to U+2FA1D, but writes them with
// four digits and a letter behind; what it does is here.
constexpr char32_t kChinese[][2] = {
    {0x3400, 0x4DB5}, {0x4E00, 0x9FA5}, {0x9FA6, 0x9FBB}, {0xF900, 0xFA2D},
    {0xFA30, 0xFA6A}, {0xFA70, 0xFAD9}, {0xFF00, 0xFFEF}, {0x2E80, 0x2EFF},
    {0x3000, 0x303F}, {0x31C0, 0x31EF}, {0x2F00, 0x2FDF}, {0x2FF0, 0x2FFF},
    {0x3100, 0x312F}, {0x31A0, 0x31BF}, {0xFE10, 0xFE1F}, {0xFE30, 0xFE4F},
    {0x2600, 0x26FF}, {0x2700, 0x27BF}, {0x3200, 0x32FF}, {0x2001, 0x2A6D},
    {0x2F81, 0x2FA1}, {0x3300, 0x33FF},
};

std::vector<std::string> TokensZh(std::string_view text) {
  const std::string stripped = PythonStrip(text);
  std::string line;
  for (std::string_view rest = stripped; !rest.empty();) {
    const Character c = FirstCharacter(rest);
    const bool chinese = std::ranges::any_of(kChinese, [&](const auto& range) {
      return c.value >= range[0] && c.value <= range[1];
    });
    if (chinese) line += ' ';
    line += rest.substr(0, c.size);
    if (chinese) line += ' ';
    rest.remove_prefix(c.size);
  }
  return PartWords(line);
}

std::vector<std::string> TokensOf(std::string_view text, BleuTokens tokens) {
  const std::string line = PythonRStrip(ReplaceInvalidUtf8(text));
  return tokens == BleuTokens::kZh ? TokensZh(line) : Tokens13a(line);
}

using Counts = std::map<std::vector<std::string>, int64_t>;

Counts NGrams(const std::vector<std::string>& words, size_t order) {
  Counts counts;
  for (size_t i = 0; i + order <= words.size(); ++i) {
    const auto begin = words.begin() + static_cast<int64_t>(i);
    ++counts[{begin, begin + static_cast<int64_t>(order)}];
  }
  return counts;
}

}  // namespace

BleuTokens BleuTokensOf(std::string_view language) {
  return language.starts_with("zh") ? BleuTokens::kZh : BleuTokens::k13a;
}

Sums BleuSums(std::string_view text, std::string_view reference,
              BleuTokens tokens) {
  const std::vector<std::string> words = TokensOf(text, tokens);
  const std::vector<std::string> wanted = TokensOf(reference, tokens);
  Sums sums = {static_cast<double>(words.size()),
               static_cast<double>(wanted.size())};
  for (size_t order = 1; order <= kOrders; ++order) {
    const Counts there = NGrams(wanted, order);
    int64_t matches = 0;
    int64_t all = 0;
    for (const auto& [ngram, count] : NGrams(words, order)) {
      all += count;
      const auto found = there.find(ngram);
      if (found != there.end()) matches += std::min(count, found->second);
    }
    sums.push_back(static_cast<double>(matches));
    sums.push_back(static_cast<double>(all));
  }
  return sums;
}

double BleuOfSums(const Sums& sums) {
  const double length = sums[0];
  const double wanted = sums[1];
  double logs = 0;
  double smooth = 1;
  bool any = false;
  for (size_t order = 0; order < kOrders; ++order) {
    const double matches = sums[2 + 2 * order];
    const double all = sums[3 + 2 * order];
    any = any || matches > 0;
    // No text has so many words; sacrebleu takes this for the logarithm of 0.
    if (all == 0) {
      logs += -9999999999 * static_cast<double>(kOrders - order);
      break;
    }
    if (matches == 0) smooth *= 2;
    logs += std::log(matches == 0 ? 100 / (smooth * all) : 100 * matches / all);
  }
  if (!any) return 0;
  const double brevity = length < wanted ? std::exp(1 - wanted / length) : 1;
  return brevity * std::exp(logs / kOrders);
}

}  // namespace mobe
