#include "jinja/parser.h"

#include "jinja/expression_parser.h"

namespace mobe::jinja {
namespace {

using StatementPtr = std::unique_ptr<const Statement>;

template <class Node>
StatementPtr Make(int line, Node node) {
  return std::make_unique<const Statement>(Statement{std::move(node), line});
}

class Parser : private ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Block ParseTemplate() {
    Block block = ParseBlock({});
    if (!At(Kind::kEnd)) FailAtTag();
    return block;
  }

 private:
  // Up to a tag whose name is in `ends`, behind its "{%", or to kEnd.
  Block ParseBlock(Names ends) {
    const Level level = Nest();
    Block block;
    for (;;) {
      const int line = Current().line;
      if (At(Kind::kText)) {
        block.push_back(Make(line, Text{Take().text}));
      } else if (At(Kind::kPrintBegin)) {
        Take();
        block.push_back(Make(line, Print{ParseTuple(Condition::kYes)}));
        Expect(Kind::kPrintEnd, "}}");
      } else if (At(Kind::kEnd)) {
        if (ends.size() > 0) {
          FailHere(ErrorKind::kCorruptFile, "expected {{% {} %}}, found {}",
                   *(ends.end() - 1), Found());
        }
        return block;
      } else {
        Take();  // {%
        if (At(Kind::kName) && Contains(ends, Current().text)) return block;
        block.push_back(ParseStatement());
        EndStatement();
      }
    }
  }

  void EndStatement() { Expect(Kind::kStatementEnd, "%}"); }

  // The end tag that ParseBlock has stopped at, to its "%}", which is left.
  void EndBlock() { Take(); }

  [[noreturn]] void FailAtTag() const {
    FailHere(ErrorKind::kUnsupported, "the tag {} is not supported here",
             Found());
  }

  StatementPtr ParseStatement() {
    const int line = Current().line;
    if (TakeName("if")) return Make(line, ParseIf());
    if (TakeName("for")) return Make(line, ParseFor());
    if (TakeName("set")) return ParseSet(line);
    if (TakeName("with")) return Make(line, ParseWith());
    if (TakeName("generation")) {
      EndStatement();
      const Outside outside(this, /*in_loop=*/false);
      Scope scope{ParseBlock({"endgeneration"})};
      EndBlock();
      return Make(line, std::move(scope));
    }
    if (AtName("macro")) {
      if (!at_top_) {
        FailHere(ErrorKind::kUnsupported,
                 "a macro within another block than if is not supported");
      }
      Take();
      return Make(line, ParseMacro());
    }
    if (AtName("break") || AtName("continue")) {
      if (!in_loop_) {
        FailHere(ErrorKind::kCorruptFile, "{} outside of a loop", Found());
      }
      if (Take().text == "break") return Make(line, Break{});
      return Make(line, Continue{});
    }
    FailAtTag();
  }

  // Within a block that has names of its own.
  class Outside {
   public:
    Outside(Parser* parser, bool in_loop)
        : parser_(parser),
          at_top_(parser->at_top_),
          in_loop_(parser->in_loop_) {
      parser->at_top_ = false;
      parser->in_loop_ = in_loop;
    }
    Outside(const Outside&) = delete;
    Outside& operator=(const Outside&) = delete;
    ~Outside() {
      parser_->at_top_ = at_top_;
      parser_->in_loop_ = in_loop_;
    }

   private:
    Parser* parser_;
    bool at_top_;
    bool in_loop_;
  };

  If ParseIf() {
    If node;
    for (;;) {
      ExpressionPtr condition = ParseTuple(Condition::kNo);
      EndStatement();
      node.branches.emplace_back(std::move(condition),
                                 ParseBlock({"elif", "else", "endif"}));
      if (!TakeName("elif")) break;
    }
    if (TakeName("else")) {
      EndStatement();
      node.otherwise = ParseBlock({"endif"});
    }
    EndBlock();
    return node;
  }

  For ParseFor() {
    For node;
    node.target = ParseTarget(/*attribute=*/false);
    ExpectName("in");
    node.items = ParseTuple(Condition::kNo);
    if (TakeName("if")) node.condition = ParseExpression();
    if (AtName("recursive")) {
      FailHere(ErrorKind::kUnsupported, "recursive loops are not supported");
    }
    EndStatement();
    {
      const Outside outside(this, /*in_loop=*/true);
      node.body = ParseBlock({"else", "endfor"});
    }
    if (TakeName("else")) {
      EndStatement();
      const Outside outside(this, in_loop_);
      node.otherwise = ParseBlock({"endfor"});
    }
    EndBlock();
    return node;
  }

  StatementPtr ParseSet(int line) {
    Target target = ParseTarget(/*attribute=*/true);
    if (TakeOperator("=")) {
      return Make(line, Set{std::move(target), ParseTuple(Condition::kYes)});
    }
    if (target.tuple) {
      FailHere(ErrorKind::kCorruptFile, "expected =, found {}", Found());
    }
    SetBlock node{std::move(target), {}, {}};
    while (TakeOperator("|")) node.filters.push_back(ParseFilter(nullptr));
    EndStatement();
    const Outside outside(this, /*in_loop=*/false);
    node.body = ParseBlock({"endset"});
    EndBlock();
    return Make(line, std::move(node));
  }

  With ParseWith() {
    With node;
    while (!At(Kind::kStatementEnd)) {
      if (!node.names.empty()) ExpectOperator(",");
      std::string name = ExpectAssignable();
      ExpectOperator("=");
      node.names.emplace_back(std::move(name), ParseExpression());
    }
    EndStatement();
    const Outside outside(this, in_loop_);
    node.body = ParseBlock({"endwith"});
    EndBlock();
    return node;
  }

  MacroDefinition ParseMacro() {
    auto macro = std::make_unique<Macro>();
    macro->name = ExpectAssignable();
    ExpectOperator("(");
    while (!TakeOperator(")")) {
      if (!macro->parameters.empty()) ExpectOperator(",");
      std::string name = ExpectAssignable();
      ExpressionPtr value = TakeOperator("=") ? ParseExpression() : nullptr;
      if (value == nullptr && !macro->parameters.empty() &&
          macro->parameters.back().second != nullptr) {
        FailHere(ErrorKind::kCorruptFile,
                 "a parameter without a default behind one that has one");
      }
      macro->parameters.emplace_back(std::move(name), std::move(value));
    }
    EndStatement();
    const Outside outside(this, /*in_loop=*/false);
    macro->body = ParseBlock({"endmacro"});
    EndBlock();
    return {std::move(macro)};
  }

  std::string ExpectAssignable() {
    if (At(Kind::kName) &&
        Contains({"true", "false", "none", "True", "False", "None", "loop"},
                 Current().text)) {
      FailHere(ErrorKind::kCorruptFile, "nothing can be assigned to {}",
               Found());
    }
    return ExpectAnyName();
  }

  Target ParseTarget(bool attribute) {
    Target target;
    const bool parentheses = TakeOperator("(");
    target.names.push_back(ExpectAssignable());
    if (attribute && !parentheses && TakeOperator(".")) {
      target.attribute = ExpectAnyName();
      return target;
    }
    while (TakeOperator(",")) {
      target.tuple = true;
      if (!At(Kind::kName) || AtName("in")) break;
      target.names.push_back(ExpectAssignable());
    }
    if (parentheses) ExpectOperator(")");
    return target;
  }

  bool at_top_ = true;    // where macros may be defined
  bool in_loop_ = false;  // where break and continue may stand
};

}  // namespace

Block Parse(std::string_view source) {
  return Parser(Tokenize(source)).ParseTemplate();
}

}  // namespace mobe::jinja
