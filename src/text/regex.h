// Splitting text by a regular expression, run by ICU.
#pragma once

#include <unicode/regex.h>
#include <unicode/unistr.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mobe {

class SplitRegex {
 public:
  // A match or what is between two, in UTF-16 units.
  struct Span {
    int32_t begin;
    int32_t end;
    bool is_match;
  };

  // `pattern` is Oniguruma's.
  SplitRegex(std::string_view pattern, const std::string& where);

  // Matches in one text: for a thread.
  class Matcher {
   public:
    // `text` must outlive the matcher.
    Matcher(const SplitRegex& regex, const icu::UnicodeString& text);
    // Appends the spans that make up [begin, end) (not empty), matched as if
    // it were the whole text. Fails with kUnsupported when the pattern takes
    // more than about 1000 steps for each unit of the part (10 million for a
    // short one) or too much memory.
    void Split(int32_t begin, int32_t end, std::vector<Span>& spans);

   private:
    std::unique_ptr<icu::RegexMatcher> matcher_;
    const icu::UnicodeString* text_;
    icu::UnicodeString part_;
    const std::string* where_;
  };

 private:
  std::unique_ptr<icu::RegexPattern> pattern_;
  std::string where_;
};

}  // namespace mobe
