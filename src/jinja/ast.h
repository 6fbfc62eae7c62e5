// The syntax tree of a template.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "jinja/value.h"

namespace mobe::jinja {

// --- Expressions.

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;  // null: left out

struct Literal {
  Value value;
};
struct Name {
  std::string name;
};
struct LoopAttribute {  // loop.name, or loop when the name is empty
  std::string name;
};
struct ListDisplay {  // [a, b], (a, b)
  std::vector<ExpressionPtr> items;
  bool tuple;
};
struct DictDisplay {  // {'a': b}
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> items;
};
struct Attribute {  // object.name
  ExpressionPtr object;
  std::string name;
};
struct Item {  // object[key]
  ExpressionPtr object;
  ExpressionPtr key;
};
struct Slice {  // object[start:stop:step], each may be null
  ExpressionPtr object;
  ExpressionPtr start;
  ExpressionPtr stop;
  ExpressionPtr step;
};
struct CallArguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
};
struct CallExpression {  // function(arguments)
  ExpressionPtr function;
  CallArguments arguments;
};
struct Filter {  // value | name(arguments); in a set block value is null
  ExpressionPtr value;
  std::string name;
  CallArguments arguments;
};
struct Test {  // value is name(arguments)
  ExpressionPtr value;
  std::string name;
  CallArguments arguments;
};
struct Unary {  // operation: "-", "+" or "not"
  std::string operation;
  ExpressionPtr operand;
};
struct Binary {  // "+", "-", "*", "/", "//", "%", "**", "and", "or"
  std::string operation;
  ExpressionPtr left;
  ExpressionPtr right;
};
struct Comparison {  // first < a == b ...; also "in" and "not in"
  ExpressionPtr first;
  std::vector<std::pair<std::string, ExpressionPtr>> rest;
};
struct Concatenation {  // a ~ b ~ ...
  std::vector<ExpressionPtr> parts;
};
struct Conditional {  // then if condition else otherwise (may be null)
  ExpressionPtr condition;
  ExpressionPtr then;
  ExpressionPtr otherwise;
};

struct Expression {
  std::variant<Literal, Name, LoopAttribute, ListDisplay, DictDisplay,
               Attribute, Item, Slice, CallExpression, Filter, Test, Unary,
               Binary, Comparison, Concatenation, Conditional>
      node;
  int line;
};

// --- Statements.

struct Statement;
using Block = std::vector<std::unique_ptr<const Statement>>;

// Whose names end with it.
struct ScopedBlock {
  Block block;
  int scope = 0;  // its number in Tree::hidden
};

// What is assigned to: a name, an attribute of a namespace, or a tuple of
// names.
struct Target {
  std::vector<std::string> names;
  bool tuple = false;
  std::string attribute;  // of the namespace names[0]; empty: none
};

struct Text {
  std::string text;
};
struct Print {
  ExpressionPtr value;
};
struct If {
  std::vector<std::pair<ExpressionPtr, Block>> branches;  // if, elif
  Block otherwise;
};
struct For {
  Target target;
  ExpressionPtr items;
  ExpressionPtr condition;  // null: all items
  ScopedBlock body;
  ScopedBlock otherwise;  // when the end of the body was never reached
};
struct Set {
  Target target;
  ExpressionPtr value;
};
struct SetBlock {
  Target target;
  std::vector<ExpressionPtr> filters;  // each a Filter, in order
  ScopedBlock body;
};
struct FilterBlock {
  std::vector<ExpressionPtr> filters;  // as in SetBlock
  ScopedBlock body;
};
struct Macro {
  std::string name;
  std::vector<std::pair<std::string, ExpressionPtr>> parameters;  // or null
  ScopedBlock body;
};
struct MacroDefinition {
  std::unique_ptr<const Macro> macro;
};
struct Generation {
  ScopedBlock body;
};
struct With {
  std::vector<std::pair<std::string, ExpressionPtr>> names;
  ScopedBlock body;
};
struct Break {};
struct Continue {};

struct Statement {
  std::variant<Text, Print, If, For, Set, SetBlock, FilterBlock,
               MacroDefinition, Generation, With, Break, Continue>
      node;
  int line;
};

struct Tree {
  Block block;
  // For each scope the names that begin undefined in it; the first is the
  // template's. See scopes.h.
  std::vector<std::vector<std::string>> hidden;
  // The names of attributes, and the texts that stand in expressions: what may
  // be a key.
  std::set<std::string, std::less<>> keys;
};

}  // namespace mobe::jinja
