#include "jinja/token_reader.h"

#include "base/json.h"

namespace mobe::jinja {

std::string TokenReader::Found() const {
  switch (Current().kind) {
    case Kind::kEnd:
      return "the end of the template";
    case Kind::kStatementEnd:
      return "%}";
    case Kind::kPrintEnd:
      return "}}";
    case Kind::kString:
      return "the string " + Excerpt(Current().text);
    default:
      return Excerpt(Current().text);
  }
}

}  // namespace mobe::jinja
