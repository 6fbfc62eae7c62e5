#include "jinja/expression_parser.h"

#include <charconv>
#include <set>

#include "base/json.h"

namespace mobe::jinja {
namespace {

template <class Node>
ExpressionPtr MakeExpression(int line, Node node) {
  return std::make_unique<const Expression>(Expression{std::move(node), line});
}

}  // namespace

ExpressionPtr ExpressionParser::ParseTuple(Condition condition) {
  const int line = Current().line;
  const auto parse = [&] {
    return condition == Condition::kYes ? ParseExpression() : ParseOr();
  };
  ExpressionPtr first = parse();
  if (!AtOperator(",")) return first;
  ListDisplay tuple{{}, true};
  tuple.items.push_back(std::move(first));
  while (TakeOperator(",")) {
    if (At(Kind::kPrintEnd) || At(Kind::kStatementEnd) || AtOperator(")")) {
      break;
    }
    tuple.items.push_back(parse());
  }
  return MakeExpression(line, std::move(tuple));
}

ExpressionPtr ExpressionParser::ParseExpression() {
  const Level level = Nest();
  const int line = Current().line;
  ExpressionPtr expression = ParseOr();
  int links = 0;
  while (TakeName("if")) {
    CountLink(&links);
    ExpressionPtr condition = ParseOr();
    ExpressionPtr otherwise = TakeName("else") ? ParseExpression() : nullptr;
    expression = MakeExpression(
        line, Conditional{std::move(condition), std::move(expression),
                          std::move(otherwise)});
  }
  return expression;
}

template <class ParseOperand>
ExpressionPtr ExpressionParser::ParseChain(Kind kind, Names operations,
                                           const ParseOperand& parse) {
  const int line = Current().line;
  ExpressionPtr left = parse();
  int links = 0;
  while (At(kind) && Contains(operations, Current().text)) {
    CountLink(&links);
    std::string operation = Take().text;
    ExpressionPtr right = parse();
    left = MakeExpression(
        line, Binary{std::move(operation), std::move(left), std::move(right)});
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseOr() {
  return ParseChain(Kind::kName, {"or"}, [this] { return ParseAnd(); });
}

ExpressionPtr ExpressionParser::ParseAnd() {
  return ParseChain(Kind::kName, {"and"}, [this] { return ParseNot(); });
}

ExpressionPtr ExpressionParser::ParseNot() {
  const int line = Current().line;
  if (!TakeName("not")) return ParseComparison();
  const Level level = Nest();
  return MakeExpression(line, Unary{"not", ParseNot()});
}

std::string ExpressionParser::TakeComparison() {
  if (At(Kind::kOperator) &&
      Contains({"==", "!=", "<", "<=", ">", ">="}, Current().text)) {
    return Take().text;
  }
  if (TakeName("in")) return "in";
  if (AtName("not") && Next().kind == Kind::kName && Next().text == "in") {
    Take();
    Take();
    return "not in";
  }
  return "";
}

ExpressionPtr ExpressionParser::ParseComparison() {
  const int line = Current().line;
  Comparison comparison{ParseSum(), {}};
  for (std::string operation = TakeComparison(); !operation.empty();
       operation = TakeComparison()) {
    comparison.rest.emplace_back(operation, ParseSum());
  }
  if (comparison.rest.empty()) return std::move(comparison.first);
  return MakeExpression(line, std::move(comparison));
}

ExpressionPtr ExpressionParser::ParseSum() {
  return ParseChain(Kind::kOperator, {"+", "-"},
                    [this] { return ParseConcatenation(); });
}

ExpressionPtr ExpressionParser::ParseConcatenation() {
  const int line = Current().line;
  Concatenation concatenation;
  do {
    concatenation.parts.push_back(ParseProduct());
  } while (TakeOperator("~"));
  if (concatenation.parts.size() == 1) {
    return std::move(concatenation.parts.front());
  }
  return MakeExpression(line, std::move(concatenation));
}

ExpressionPtr ExpressionParser::ParseProduct() {
  return ParseChain(Kind::kOperator, {"*", "/", "//", "%"},
                    [this] { return ParsePower(); });
}

// Left-associative, other than Python's: so is jinja2's.
ExpressionPtr ExpressionParser::ParsePower() {
  return ParseChain(Kind::kOperator, {"**"},
                    [this] { return ParseUnary(/*filters=*/true); });
}

ExpressionPtr ExpressionParser::ParseUnary(bool filters) {
  const int line = Current().line;
  ExpressionPtr expression;
  if (AtOperator("-") || AtOperator("+")) {
    const Level level = Nest();
    std::string operation = Take().text;
    expression =
        MakeExpression(line, Unary{std::move(operation), ParseUnary(false)});
  } else {
    expression = ParsePrimary();
  }
  int links = 0;
  expression = ParsePostfix(std::move(expression), &links);
  return filters ? ParseFilters(std::move(expression), &links)
                 : std::move(expression);
}

ExpressionPtr ExpressionParser::ParsePrimary() {
  const int line = Current().line;
  switch (Current().kind) {
    case Kind::kName:
      return ParseName();
    case Kind::kString: {
      std::string text;
      while (At(Kind::kString)) text += Take().text;
      keys_.insert(text);
      return MakeExpression(line, Literal{std::move(text)});
    }
    case Kind::kInteger:
      return MakeExpression(line, Literal{ParseInteger()});
    case Kind::kFloat:
      return MakeExpression(line, Literal{ParseFloat()});
    default:
      break;
  }
  if (TakeOperator("(")) {
    if (TakeOperator(")")) return MakeExpression(line, ListDisplay{{}, true});
    ExpressionPtr inner = ParseTuple(Condition::kYes);
    ExpectOperator(")");
    return inner;
  }
  if (TakeOperator("[")) {
    ListDisplay list{{}, false};
    while (!TakeOperator("]")) {
      if (!list.items.empty()) ExpectOperator(",");
      if (TakeOperator("]")) break;
      list.items.push_back(ParseExpression());
    }
    return MakeExpression(line, std::move(list));
  }
  if (TakeOperator("{")) return ParseDict(line);
  FailHere(ErrorKind::kCorruptFile, "expected an expression, found {}",
           Found());
}

ExpressionPtr ExpressionParser::ParseDict(int line) {
  DictDisplay dict;
  while (!TakeOperator("}")) {
    if (!dict.items.empty()) ExpectOperator(",");
    if (TakeOperator("}")) break;
    ExpressionPtr key = ParseExpression();
    ExpectOperator(":");
    dict.items.emplace_back(std::move(key), ParseExpression());
  }
  return MakeExpression(line, std::move(dict));
}

ExpressionPtr ExpressionParser::ParseName() {
  const int line = Current().line;
  const std::string name = Take().text;
  if (name == "true" || name == "True") {
    return MakeExpression(line, Literal{true});
  }
  if (name == "false" || name == "False") {
    return MakeExpression(line, Literal{false});
  }
  if (name == "none" || name == "None") {
    return MakeExpression(line, Literal{None{}});
  }
  if (Contains({"varargs", "kwargs", "caller", "self", "super"}, name)) {
    FailHere(ErrorKind::kUnsupported, "{} is not supported", name);
  }
  if (name != "loop") {
    scopes_.Read(name);
    return MakeExpression(line, Name{name});
  }
  if (!AtOperator(".") || Next().kind != Kind::kName) {
    return MakeExpression(line, LoopAttribute{});
  }
  Take();
  return MakeExpression(line, LoopAttribute{ExpectAnyName()});
}

Value ExpressionParser::ParseInteger() {
  const auto integer = Value::ReadInteger(Current().text);
  if (!integer) FailAtNumber();
  Take();
  return *integer;
}

Value ExpressionParser::ParseFloat() {
  const std::string& text = Current().text;
  double number = 0;
  const auto end = text.data() + text.size();
  if (std::from_chars(text.data(), end, number).ec != std::errc()) {
    FailAtNumber();
  }
  Take();
  return number;
}

void ExpressionParser::FailAtNumber() const {
  FailHere(ErrorKind::kUnsupported, "the number {} is too large",
           Excerpt(Current().text));
}

ExpressionPtr ExpressionParser::ParsePostfix(ExpressionPtr expression,
                                             int* links) {
  for (;;) {
    const int line = Current().line;
    if (TakeOperator(".")) {
      CountLink(links);
      if (At(Kind::kInteger)) {
        ExpressionPtr key = MakeExpression(line, Literal{ParseInteger()});
        expression =
            MakeExpression(line, Item{std::move(expression), std::move(key)});
      } else {
        std::string name = ExpectAnyName();
        keys_.insert(name);
        expression = MakeExpression(
            line, Attribute{std::move(expression), std::move(name)});
      }
    } else if (TakeOperator("[")) {
      CountLink(links);
      expression = ParseSubscript(std::move(expression), line);
    } else if (AtOperator("(")) {
      CountLink(links);
      CallArguments arguments = ParseArguments();
      expression = MakeExpression(
          line, CallExpression{std::move(expression), std::move(arguments)});
    } else {
      return expression;
    }
  }
}

ExpressionPtr ExpressionParser::ParseSubscript(ExpressionPtr object, int line) {
  const auto part = [this]() -> ExpressionPtr {
    if (AtOperator(":") || AtOperator("]")) return nullptr;
    return ParseExpression();
  };
  ExpressionPtr start = part();
  if (start != nullptr && TakeOperator("]")) {
    return MakeExpression(line, Item{std::move(object), std::move(start)});
  }
  ExpectOperator(":");
  ExpressionPtr stop = part();
  ExpressionPtr step = TakeOperator(":") ? part() : nullptr;
  ExpectOperator("]");
  return MakeExpression(line, Slice{std::move(object), std::move(start),
                                    std::move(stop), std::move(step)});
}

CallArguments ExpressionParser::ParseArguments() {
  CallArguments arguments;
  std::set<std::string> names;
  ExpectOperator("(");
  bool first = true;
  while (!TakeOperator(")")) {
    if (!first) ExpectOperator(",");
    first = false;
    if (TakeOperator(")")) break;
    if (AtOperator("*") || AtOperator("**")) {
      FailHere(ErrorKind::kUnsupported,
               "arguments by * or ** are not supported");
    }
    const Token& next = Next();
    if (At(Kind::kName) && next.kind == Kind::kOperator && next.text == "=") {
      std::string name = Take().text;
      if (!names.insert(name).second) {
        FailHere(ErrorKind::kCorruptFile, "the argument {} is given twice",
                 Excerpt(name));
      }
      Take();
      arguments.named.emplace_back(std::move(name), ParseExpression());
    } else if (!arguments.named.empty()) {
      FailHere(ErrorKind::kCorruptFile,
               "an argument without a name behind one with a name");
    } else {
      arguments.positional.push_back(ParseExpression());
    }
  }
  return arguments;
}

ExpressionPtr ExpressionParser::ParseFilters(ExpressionPtr expression,
                                             int* links) {
  for (;;) {
    if (TakeOperator("|")) {
      CountLink(links);
      expression = ParseFilter(std::move(expression));
    } else if (TakeName("is")) {
      CountLink(links);
      expression = ParseTest(std::move(expression));
    } else if (AtOperator("(")) {
      expression = ParsePostfix(std::move(expression), links);
    } else {
      return expression;
    }
  }
}

ExpressionPtr ExpressionParser::ParseFilter(ExpressionPtr value) {
  const int line = Current().line;
  Filter filter{std::move(value), ExpectAnyName(), {}};
  if (AtOperator("(")) filter.arguments = ParseArguments();
  return MakeExpression(line, std::move(filter));
}

// Behind its "is".
ExpressionPtr ExpressionParser::ParseTest(ExpressionPtr value) {
  const int line = Current().line;
  const bool negated = TakeName("not");
  Test test{std::move(value), ExpectAnyName(), {}};
  if (AtOperator("(")) {
    test.arguments = ParseArguments();
  } else if (AtTestArgument()) {
    const Level level = Nest();
    int links = 0;
    test.arguments.positional.push_back(ParsePostfix(ParsePrimary(), &links));
  }
  ExpressionPtr expression = MakeExpression(line, std::move(test));
  if (!negated) return expression;
  return MakeExpression(line, Unary{"not", std::move(expression)});
}

// An argument may stand without parentheses: `is divisibleby 3`.
bool ExpressionParser::AtTestArgument() const {
  if (At(Kind::kName)) {
    // jinja2 would take these for the argument, and fail.
    if (Contains({"is", "if", "in", "not"}, Current().text)) {
      FailHere(ErrorKind::kCorruptFile,
               "{} right behind a test, which wants parentheses", Found());
    }
    return !Contains({"else", "or", "and"}, Current().text);
  }
  return At(Kind::kString) || At(Kind::kInteger) || At(Kind::kFloat) ||
         AtOperator("[") || AtOperator("{");
}

}  // namespace mobe::jinja
