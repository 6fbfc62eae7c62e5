// Cuts a Jinja template into text and tokens.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mobe::jinja {

struct Token {
  enum class Kind {
    kText,            // outside of tags; `text` is printed as it is
    kStatementBegin,  // {%
    kStatementEnd,    // %}
    kPrintBegin,      // {{
    kPrintEnd,        // }}
    kName,            // or keyword
    kInteger,
    kFloat,
    kString,  // `text` is what it means, without quotes
    kOperator,
    kEnd,  // of the template
  };
  Kind kind;
  std::string text;
  int line;
};

// White space around tags goes as in jinja2 with trim_blocks and lstrip_blocks:
// a line break right behind a block or comment, and the blanks in a line before
// one, are not text; `-` takes all white space, `+` keeps it. Comments give no
// token, raw blocks text. Line breaks are read as "\n", and one at the end of
// the template is not text. Fails with kCorruptFile or kUnsupported, naming the
// line. `source` is well-formed UTF-8.
std::vector<Token> Tokenize(std::string_view source);

}  // namespace mobe::jinja
