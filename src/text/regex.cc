#include "text/regex.h"

#include "base/error.h"
#include "text/oniguruma.h"

namespace mobe {
namespace {

[[noreturn]] void FailMatch(const std::string& where, UErrorCode status) {
  Fail(ErrorKind::kUnsupported,
       "{}: the pattern cannot be matched with bounded time and memory: {}",
       where, u_errorName(status));
}

}  // namespace

SplitRegex::SplitRegex(std::string_view pattern, const std::string& where)
    : where_(where) {
  constexpr size_t kMaxPattern = 16 << 10;  // ICU takes 400 times that
  if (pattern.size() > kMaxPattern) {
    Fail(ErrorKind::kUnsupported,
         "{}: a pattern of {} bytes is not supported; at most {} are", where,
         pattern.size(), kMaxPattern);
  }
  const std::string translated = TranslateOniguruma(pattern, where);
  UParseError place;
  UErrorCode status = U_ZERO_ERROR;
  // As in Ruby, ^ and $ match at the lines' ends, which are "\n" alone.
  pattern_.reset(icu::RegexPattern::compile(
      icu::UnicodeString::fromUTF8(translated),
      UREGEX_MULTILINE | UREGEX_UNIX_LINES, place, status));
  if (U_FAILURE(status)) {
    Fail(ErrorKind::kUnsupported, "{}: ICU cannot read the pattern {}: {}",
         where, pattern, u_errorName(status));
  }
}

SplitRegex::Matcher::Matcher(const SplitRegex& regex,
                             const icu::UnicodeString& text)
    : text_(&text), where_(&regex.where_) {
  constexpr int32_t kStackBytes = 64 << 20;
  UErrorCode status = U_ZERO_ERROR;
  matcher_.reset(regex.pattern_->matcher(status));
  if (U_SUCCESS(status)) matcher_->setStackLimit(kStackBytes, status);
  if (U_FAILURE(status)) FailMatch(*where_, status);
}

void SplitRegex::Matcher::Split(int32_t begin, int32_t end,
                                std::vector<Span>& spans) {
  UErrorCode status = U_ZERO_ERROR;
  // An alias of the part, not a region of the text: ICU's look-behind sees
  // what is before a region.
  part_.setTo(/*isTerminated=*/false, text_->getBuffer() + begin, end - begin);
  matcher_->reset(part_);
  // A unit of time is 10,000 steps of backtracking, about 0.1 ms.
  matcher_->setTimeLimit(1000 + (end - begin) / 10, status);
  int32_t done = begin;
  bool matched = false;
  while (matcher_->find(status)) {
    const int32_t match_begin = begin + matcher_->start(status);
    const int32_t match_end = begin + matcher_->end(status);
    // Oniguruma's search takes no empty match right behind a match.
    if (matched && match_begin == match_end && match_end == done) continue;
    if (match_begin > done) spans.push_back({done, match_begin, false});
    spans.push_back({match_begin, match_end, true});
    done = match_end;
    matched = true;
  }
  if (U_FAILURE(status)) FailMatch(*where_, status);
  if (done < end) spans.push_back({done, end, false});
}

}  // namespace mobe
