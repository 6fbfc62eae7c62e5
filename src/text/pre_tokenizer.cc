#include "text/pre_tokenizer.h"

#include <unicode/utf16.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/unicode.h"
#include "text/fields.h"
#include "text/oniguruma.h"

namespace mobe {
namespace {

// GPT-2's, which ByteLevel uses by itself.
constexpr std::string_view kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
    "\\s+(?!\\S)|\\s+";

// UTF-8 of a part of well-formed UTF-16. ICU's own conversion costs more than
// the encoding of a short word.
void ToUtf8(const char16_t* units, int32_t begin, int32_t end,
            std::string& out) {
  out.clear();
  for (int32_t i = begin; i < end;) {
    UChar32 c;
    U16_NEXT_UNSAFE(units, i, c);
    if (c < 0x80) {
      out.push_back(static_cast<char>(c));
    } else {
      AppendUtf8(static_cast<char32_t>(c), out);
    }
  }
}

}  // namespace

PreTokenizer::PreTokenizer(const Json& json, const std::string& where) {
  Read(json, where);
  if (!byte_level_) {
    Fail(ErrorKind::kUnsupported,
         "{}: there is no ByteLevel; only byte-level BPE is supported", where);
  }
}

void PreTokenizer::Read(const Json& json, const std::string& where) {
  if (json.is_null()) return;
  const std::string& type = StringMember(json, "type", where);
  const std::string here = where + ": " + type;
  constexpr size_t kMaxSteps = 32;  // published ones have up to 5
  if (steps_.size() == kMaxSteps) {
    Fail(ErrorKind::kUnsupported, "{}: more than {} steps are not supported",
         here, kMaxSteps);
  }
  if (byte_level_) {
    Fail(ErrorKind::kUnsupported, "{} after ByteLevel is not supported", here);
  }
  if (type == "Sequence") {
    for (const Json& part : ArrayMember(json, "pretokenizers", here)) {
      Read(part, here);
    }
  } else if (type == "Split") {
    ReadSplit(json, here);
  } else if (type == "Digits") {
    Step& step = steps_.emplace_back();
    step.regex.emplace("\\p{N}", here);
    if (!BoolMember(json, "individual_digits", here)) {
      step.behavior = Behavior::kContiguous;
    }
  } else if (type == "ByteLevel") {
    byte_level_ = true;
    Step& step = steps_.emplace_back();
    step.add_prefix_space = BoolMember(json, "add_prefix_space", here);
    const Json& use_regex = MemberOrNull(json, "use_regex", here);
    if (use_regex.is_null() || BoolMember(json, "use_regex", here)) {
      step.regex.emplace(kGpt2Pattern, here);
    }
  } else {
    Fail(ErrorKind::kUnsupported,
         "{}: type \"{}\" is not supported; Split, Digits, ByteLevel and "
         "Sequence are",
         where, type);
  }
}

void PreTokenizer::ReadSplit(const Json& json, const std::string& where) {
  static constexpr std::pair<std::string_view, Behavior> kBehaviors[] = {
      {"Isolated", Behavior::kIsolated},
      {"Removed", Behavior::kRemoved},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous},
  };
  Step& step = steps_.emplace_back();
  step.invert = BoolMember(json, "invert", where);
  const std::string& name = StringMember(json, "behavior", where);
  const auto* behavior = std::ranges::find(
      kBehaviors, name, &std::pair<std::string_view, Behavior>::first);
  if (behavior == std::end(kBehaviors)) {
    Fail(ErrorKind::kUnsupported, "{}: behavior \"{}\" is not supported", where,
         name);
  }
  step.behavior = behavior->second;
  const Json& pattern = MemberOrNull(json, "pattern", where);
  if (pattern.is_object() && pattern.contains("String")) {
    step.regex.emplace(EscapeRegex(StringMember(pattern, "String", where)),
                       where);
  } else {
    step.regex.emplace(StringMember(pattern, "Regex", where), where);
  }
}

// Puts a space before each piece that does not start with one.
void PreTokenizer::PrefixSpaces(icu::UnicodeString& text, Spans& pieces) {
  icu::UnicodeString out;
  for (auto& piece : pieces) {
    const int32_t begin = out.length();
    if (text.charAt(piece.begin) != u' ') out.append(u' ');
    out.append(text, piece.begin, piece.end - piece.begin);
    piece = {begin, out.length(), false};
  }
  text = out;
}

// Makes pieces of matches and gaps.
void PreTokenizer::Merge(Behavior behavior, const Spans& spans, Spans& pieces) {
  const size_t first = pieces.size();
  bool previous = false;  // the last span was a match
  for (const auto& span : spans) {
    bool join = false;
    switch (behavior) {
      case Behavior::kIsolated:
        break;
      case Behavior::kRemoved:
        if (span.is_match) continue;
        break;
      case Behavior::kMergedWithPrevious:
        join = span.is_match && !previous;
        break;
      case Behavior::kMergedWithNext:
        join = !span.is_match && previous;
        break;
      case Behavior::kContiguous:
        join = span.is_match == previous;
        break;
    }
    previous = span.is_match;
    if (join && pieces.size() > first) {
      pieces.back().end = span.end;
    } else {
      pieces.push_back(span);
    }
  }
}

void PreTokenizer::Split(
    std::string_view text,
    const std::function<void(std::string_view)>& emit) const {
  icu::UnicodeString units = icu::UnicodeString::fromUTF8(
      {text.data(), static_cast<int32_t>(text.size())});
  Spans pieces;
  if (!units.isEmpty()) pieces.push_back({0, units.length(), false});
  Spans spans;
  Spans next;
  for (const Step& step : steps_) {
    if (step.add_prefix_space) PrefixSpaces(units, pieces);
    if (!step.regex) continue;
    SplitRegex::Matcher matcher(*step.regex, units);
    next.clear();
    for (const auto& piece : pieces) {
      spans.clear();
      matcher.Split(piece.begin, piece.end, spans);
      for (auto& span : spans) span.is_match ^= step.invert;
      Merge(step.behavior, spans, next);
    }
    std::erase_if(next, [](const auto& p) { return p.begin == p.end; });
    pieces.swap(next);
  }
  std::string bytes;
  for (const auto& piece : pieces) {
    ToUtf8(units.getBuffer(), piece.begin, piece.end, bytes);
    emit(bytes);
  }
}

}  // namespace mobe
