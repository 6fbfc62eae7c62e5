#include "jinja/parser.h"

#include "jinja/expression_parser.h"

namespace mobe::jinja {
namespace {

using StatementPtr = std::unique_ptr<const Statement>;

template <class Node>
StatementPtr MakeStatement(int line, Node node) {
  return std::make_unique<const Statement>(Statement{std::move(node), line});
}

class Parser : private ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Tree ParseTemplate() {
    Block block = ParseBlock({});
    if (!At(Kind::kEnd)) FailAtTag();
    return {std::move(block), scopes().Hidden(), TakeKeys()};
  }

 private:
  // Up to a tag whose name is in `ends`, behind its "{%", or to kEnd.
  Block ParseBlock(Names ends) {
    const Level level = Nest();
    Block block;
    for (;;) {
      const int line = Current().line;
      if (At(Kind::kText)) {
        block.push_back(MakeStatement(line, Text{Take().text}));
      } else if (At(Kind::kPrintBegin)) {
        Take();
        block.push_back(
            MakeStatement(line, Print{ParseTuple(Condition::kYes)}));
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
    if (TakeName("if")) return MakeStatement(line, ParseIf());
    if (TakeName("for")) return MakeStatement(line, ParseFor());
    if (TakeName("set")) return ParseSet(line);
    if (TakeName("with")) return MakeStatement(line, ParseWith());
    if (TakeName("filter")) return MakeStatement(line, ParseFilterBlock());
    if (TakeName("generation")) {
      EndStatement();
      Generation generation{ParseScope({"endgeneration"}, /*in_loop=*/false)};
      EndBlock();
      return MakeStatement(line, std::move(generation));
    }
    if (AtName("macro")) {
      if (!at_top_) {
        FailHere(ErrorKind::kUnsupported,
                 "a macro within another block than if is not supported");
      }
      Take();
      return MakeStatement(line, ParseMacro());
    }
    if (AtName("break") || AtName("continue")) {
      if (!in_loop_) {
        FailHere(ErrorKind::kCorruptFile, "{} outside of a loop", Found());
      }
      if (Take().text == "break") return MakeStatement(line, Break{});
      return MakeStatement(line, Continue{});
    }
    FailAtTag();
  }

  // A block that has names of its own, of which `declared` are given to it.
  ScopedBlock ParseScope(Names ends, bool in_loop,
                         const std::vector<std::string>& declared = {}) {
    const bool at_top = std::exchange(at_top_, false);
    const bool was_in_loop = std::exchange(in_loop_, in_loop);
    ScopedBlock scoped;
    scoped.scope = scopes().Enter();
    for (const std::string& name : declared) scopes().Declare(name);
    scoped.block = ParseBlock(ends);
    scopes().Leave();
    at_top_ = at_top;
    in_loop_ = was_in_loop;
    return scoped;
  }

  // What is read with names of its own, which none of the blocks has.
  template <class Parse>
  auto Apart(const Parse& parse) {
    scopes().Enter();
    auto result = parse();
    scopes().Leave();
    return result;
  }

  If ParseIf() {
    If node;
    ParseBranch(&node);
    scopes().BeginBranches();
    while (TakeName("elif")) ParseBranch(&node);
    if (TakeName("else")) {
      EndStatement();
      node.otherwise = ParseBlock({"endif"});
    }
    scopes().EndBranches();
    EndBlock();
    return node;
  }

  // Behind "if" or "elif".
  void ParseBranch(If* node) {
    ExpressionPtr condition = ParseTuple(Condition::kNo);
    EndStatement();
    scopes().BeginBranches();
    node->branches.emplace_back(std::move(condition),
                                ParseBlock({"elif", "else", "endif"}));
    scopes().EndBranches();
  }

  For ParseFor() {
    For node;
    node.target = ParseTarget(/*attribute=*/false);
    ExpectName("in");
    node.items = ParseTuple(Condition::kNo);
    if (TakeName("if")) {
      node.condition = Apart([this] { return ParseExpression(); });
    }
    if (AtName("recursive")) {
      FailHere(ErrorKind::kUnsupported, "recursive loops are not supported");
    }
    EndStatement();
    node.body = ParseScope({"else", "endfor"}, true, node.target.names);
    if (TakeName("else")) {
      EndStatement();
      node.otherwise = ParseScope({"endfor"}, in_loop_);
    }
    EndBlock();
    return node;
  }

  StatementPtr ParseSet(int line) {
    Target target = ParseTarget(/*attribute=*/true);
    if (TakeOperator("=")) {
      ExpressionPtr value = ParseTuple(Condition::kYes);
      Note(target);
      return MakeStatement(line, Set{std::move(target), std::move(value)});
    }
    if (target.tuple) {
      FailHere(ErrorKind::kCorruptFile, "expected =, found {}", Found());
    }
    Note(target);
    SetBlock node{std::move(target), {}, {}};
    while (TakeOperator("|")) {
      node.filters.push_back(Apart([this] { return ParseFilter(nullptr); }));
    }
    EndStatement();
    node.body = ParseScope({"endset"}, /*in_loop=*/false);
    EndBlock();
    return MakeStatement(line, std::move(node));
  }

  FilterBlock ParseFilterBlock() {
    FilterBlock node;
    do {
      node.filters.push_back(Apart([this] { return ParseFilter(nullptr); }));
    } while (TakeOperator("|"));
    EndStatement();
    node.body = ParseScope({"endfilter"}, /*in_loop=*/false);
    EndBlock();
    return node;
  }

  void Note(const Target& target) {
    for (const std::string& name : target.names) {
      target.attribute.empty() ? scopes().Set(name) : scopes().Read(name);
    }
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
    std::vector<std::string> names;
    for (const auto& [name, unused] : node.names) names.push_back(name);
    node.body = ParseScope({"endwith"}, in_loop_, names);
    EndBlock();
    return node;
  }

  MacroDefinition ParseMacro() {
    auto macro = std::make_unique<Macro>();
    macro->name = ExpectAssignable();
    scopes().Set(macro->name);
    std::vector<std::string> names;
    ExpectOperator("(");
    while (!TakeOperator(")")) {
      if (!macro->parameters.empty()) ExpectOperator(",");
      std::string name = ExpectAssignable();
      names.push_back(name);
      ExpressionPtr value;
      if (TakeOperator("=")) {
        value = Apart([this] { return ParseExpression(); });
      }
      if (value == nullptr && !macro->parameters.empty() &&
          macro->parameters.back().second != nullptr) {
        FailHere(ErrorKind::kCorruptFile,
                 "a parameter without a default behind one that has one");
      }
      macro->parameters.emplace_back(std::move(name), std::move(value));
    }
    EndStatement();
    macro->body = ParseScope({"endmacro"}, /*in_loop=*/false, names);
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
      if (parentheses && AtOperator(")")) break;
      target.names.push_back(ExpectAssignable());
    }
    if (parentheses) ExpectOperator(")");
    return target;
  }

  bool at_top_ = true;    // where macros may be defined
  bool in_loop_ = false;  // where break and continue may stand
};

}  // namespace

Tree Parse(std::string_view source) {
  return Parser(Tokenize(source)).ParseTemplate();
}

}  // namespace mobe::jinja
