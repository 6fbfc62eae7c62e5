// Jinja templates, as far as chat templates need them.
//
// Hand-written, since no package of Debian 12 does it in C++: inja has another
// syntax, minja and its like are not packaged. The language is jinja2 3.1's, in
// the environment of transformers 4.57 (ImmutableSandboxedEnvironment,
// trim_blocks, lstrip_blocks, loop controls, generation blocks), less what
// parser.h names and the filters, tests and methods that the tables of
// filters.cc and its like, globals.cc and methods.cc lack. What is not
// supported fails, where it is parsed or, a filter or method, when it is met.
//
//   lexer    template -> tokens, with the rules for white space
//   parser   tokens -> ast; expression_parser: expressions
//   value    values as Python has them
//   scopes   names that begin undefined, as jinja2 compiles them
//   runtime  the bound on the work; attributes, items
//   format   % and str.format
//   loop     what a loop goes through, and `loop`
//   render   tree and values -> text
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "jinja/value.h"

namespace mobe::jinja {

struct Tree;

// Immutable; Render may run on several threads.
class Template {
 public:
  // `where` names the template in errors. Fails with kCorruptFile or
  // kUnsupported, naming the line.
  Template(std::string_view source, std::string where);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  // `variables` is an object. Nothing in it is read as a template. Fails with
  // kUserInput for what the template refuses or can't be computed, with
  // kUnsupported for what mobe can't do, or when it takes more than kMaxWork
  // or nests too deeply; the message names the line.
  std::string Render(const OrderedJson& variables) const;

  // Whether it may read something by this name from an object: as x.name,
  // x['name'] or x.get('name').
  bool Reads(std::string_view name) const;

 private:
  std::unique_ptr<const Tree> tree_;
  std::string where_;
};

inline constexpr size_t kMaxTemplateBytes = 1u << 20;

}  // namespace mobe::jinja
