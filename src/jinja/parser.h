// From the tokens of a template to its syntax tree.
#pragma once

#include <string_view>

#include "jinja/ast.h"

namespace mobe::jinja {

// The grammar is that of jinja2 3.1 without: block, extends, import, include,
// call, filter blocks, recursive loops, macros within loops or macros, and
// arguments by * or **. Fails with kUnsupported for what it does not know and
// for nesting beyond kMaxNesting (token_reader.h), with kCorruptFile for
// what can't be right; the message names the line. `source` is well-formed
// UTF-8.
Tree Parse(std::string_view source);

}  // namespace mobe::jinja
