// The grammar of expressions.
#pragma once

#include "jinja/ast.h"
#include "jinja/scopes.h"
#include "jinja/token_reader.h"

namespace mobe::jinja {

class ExpressionParser : public TokenReader {
 public:
  using TokenReader::TokenReader;

  // Whether `a if b else c` may stand without parentheses.
  enum class Condition { kNo, kYes };
  // One expression, or several with commas: a tuple.
  ExpressionPtr ParseTuple(Condition condition);
  ExpressionPtr ParseExpression();
  // Behind its "|".
  ExpressionPtr ParseFilter(ExpressionPtr value);

  // Told of all names that are read.
  Scopes& scopes() { return scopes_; }
  // Tree::keys; nothing is read after.
  std::set<std::string, std::less<>> TakeKeys() { return std::move(keys_); }

 private:
  // Left-associative operators of one level, whose operands `parse` reads.
  template <class ParseOperand>
  ExpressionPtr ParseChain(Kind kind, Names operations,
                           const ParseOperand& parse);
  // From what binds least to what binds most.
  ExpressionPtr ParseOr();
  ExpressionPtr ParseAnd();
  ExpressionPtr ParseNot();
  ExpressionPtr ParseComparison();
  // "in", "<" and the like; empty when there is none.
  std::string TakeComparison();
  ExpressionPtr ParseSum();
  ExpressionPtr ParseConcatenation();
  ExpressionPtr ParseProduct();
  ExpressionPtr ParsePower();
  ExpressionPtr ParseUnary(bool filters);
  ExpressionPtr ParsePrimary();
  ExpressionPtr ParseDict(int line);
  ExpressionPtr ParseName();
  Value ParseInteger();
  Value ParseFloat();
  [[noreturn]] void FailAtNumber() const;
  ExpressionPtr ParsePostfix(ExpressionPtr expression, int* links);
  ExpressionPtr ParseSubscript(ExpressionPtr object, int line);
  CallArguments ParseArguments();
  ExpressionPtr ParseFilters(ExpressionPtr expression, int* links);
  ExpressionPtr ParseTest(ExpressionPtr value);
  bool AtTestArgument() const;

  Scopes scopes_;
  std::set<std::string, std::less<>> keys_;
};

}  // namespace mobe::jinja
