// Splits text into the pieces that are encoded one by one.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/regex.h"

namespace mobe {

// The "pre_tokenizer" of a tokenizer.json: Split, Digits and ByteLevel, or a
// Sequence of them that ends with ByteLevel. All of them come down to steps
// that split by a pattern.
class PreTokenizer {
 public:
  // Fails with kUnsupported for other types, naming them.
  PreTokenizer(const Json& json, const std::string& where);

  // Calls emit with the UTF-8 of each piece of `text`, well-formed UTF-8.
  void Split(std::string_view text,
             const std::function<void(std::string_view)>& emit) const;

 private:
  enum class Behavior {
    kIsolated,
    kRemoved,
    kMergedWithPrevious,
    kMergedWithNext,
    kContiguous,
  };
  struct Step {
    std::optional<SplitRegex> regex;  // none: pieces stay as they are
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;            // matches and gaps change places
    bool add_prefix_space = false;  // before the split
  };
  using Spans = std::vector<SplitRegex::Span>;

  void Read(const Json& json, const std::string& where);
  void ReadSplit(const Json& json, const std::string& where);
  static void PrefixSpaces(icu::UnicodeString& text, Spans& pieces);
  static void Merge(Behavior behavior, const Spans& spans, Spans& pieces);

  std::vector<Step> steps_;
  bool byte_level_ = false;  // the last step has been read
};

}  // namespace mobe
