#include "cli/closest.h"

#include <algorithm>

namespace mobe {
namespace {

// How many letters (see closest.h) are between two words.
size_t LettersBetween(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> table(a.size() + 1,
                                         std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      size_t& least = table[i][j];
      if (i == 0 || j == 0) {
        least = i + j;
        continue;
      }
      least = std::min({table[i - 1][j] + 1, table[i][j - 1] + 1,
                        table[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        least = std::min(least, table[i - 2][j - 2] + 1);
      }
    }
  }
  return table[a.size()][b.size()];
}

}  // namespace

std::string ClosestTo(std::string_view word,
                      const std::vector<std::string>& candidates) {
  // What is much longer than any of them is none, and would take long.
  if (word.size() > 40) return "";
  std::string closest;
  size_t least = std::max<size_t>(word.size() / 3, 1) + 1;
  for (const std::string& candidate : candidates) {
    if (word.size() >= 3 && candidate.starts_with(word)) return candidate;
    const size_t letters = LettersBetween(word, candidate);
    if (letters >= least) continue;
    least = letters;
    closest = candidate;
  }
  return closest;
}

std::string DidYouMean(std::string_view word,
                       const std::vector<std::string>& candidates) {
  const std::string closest = ClosestTo(word, candidates);
  return closest.empty() ? "" : "; did you mean " + closest + "?";
}

}  // namespace mobe
