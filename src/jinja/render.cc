#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "base/unicode.h"
#include "jinja/arithmetic.h"
#include "jinja/jinja.h"
#include "jinja/loop.h"
#include "jinja/parser.h"
#include "jinja/python_text.h"
#include "jinja/runtime.h"

namespace mobe::jinja {
namespace {

// Names and what they stand for, in the scopes around them.
struct Frame {
  Frame* parent;
  std::vector<std::pair<std::string, Value>> names;
  Loop* loop = nullptr;  // that this is one round of
};

enum class Flow { kNext, kBreak, kContinue };

// Of statements, expressions and macros that are being worked on; each takes
// some 500 bytes of the stack.
constexpr int kMaxLevels = 1000;

class Renderer {
 public:
  explicit Renderer(const Tree& tree) : tree_(tree) {}

  std::string Run(const OrderedJson& variables) {
    Frame root{nullptr, {}};
    for (const auto& [name, value] : variables.items()) {
      root.names.emplace_back(name, Value::FromJson(value));
    }
    root_ = &root;
    std::string out;
    out_ = &out;
    Hide(0, &root);
    Execute(tree_.block, &root);
    return out;
  }

  int line() const { return line_; }

 private:
  class Level {
   public:
    explicit Level(Renderer* renderer) : renderer_(renderer) {
      if (renderer_->levels_ == kMaxLevels) {
        Fail(ErrorKind::kUnsupported, "nested deeper than {} levels",
             kMaxLevels);
      }
      ++renderer_->levels_;
      renderer_->runtime_.Spend(kStep);
    }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --renderer_->levels_; }

   private:
    Renderer* renderer_;
  };

  // --- Statements.

  Flow Execute(const Block& block, Frame* frame) {
    const Level level(this);
    for (const auto& statement : block) {
      runtime_.Spend(kStep);
      line_ = statement->line;
      const Flow flow = std::visit(
          [&](const auto& node) { return Do(node, frame); }, statement->node);
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  // In a frame of its own.
  Flow Execute(const ScopedBlock& scoped, Frame* inner) {
    Hide(scoped.scope, inner);
    return Execute(scoped.block, inner);
  }

  void Hide(int scope, Frame* frame) {
    for (const std::string& name : tree_.hidden[static_cast<size_t>(scope)]) {
      runtime_.Set(frame->names, name, Value::MakeUndefined(name));
    }
  }

  // What a block prints. Neither break nor continue leaves it: see the parser.
  std::string Captured(const ScopedBlock& scoped, Frame* inner) {
    std::string text;
    std::string* const out = std::exchange(out_, &text);
    Execute(scoped, inner);
    out_ = out;
    return text;
  }

  void Write(const std::string& text) {
    runtime_.Spend(text.size());
    *out_ += text;
  }

  Flow Do(const Text& node, Frame*) {
    Write(node.text);
    return Flow::kNext;
  }

  Flow Do(const Print& node, Frame* frame) {
    const Value value = Evaluate(node.value, frame);
    runtime_.Spend(value.extent().weight);
    Write(ToString(value));
    return Flow::kNext;
  }

  Flow Do(const If& node, Frame* frame) {
    for (const auto& [condition, block] : node.branches) {
      if (Evaluate(condition, frame).Truthy()) return Execute(block, frame);
    }
    return Execute(node.otherwise, frame);
  }

  Flow Do(const For& node, Frame* frame) {
    const Value value = Evaluate(node.items, frame);
    Iteration items(value, &runtime_);
    const auto fetch = [&]() -> std::optional<Value> {
      std::optional<Value> item = items.Next();
      while (item && !Passes(*item, node, frame)) item = items.Next();
      return item;
    };
    Loop loop(fetch, node.condition == nullptr ? LengthOf(value, runtime_)
                                               : std::nullopt);
    bool ended = false;  // the body, for any of the items
    while (loop.Next()) {
      Frame inner{frame, {}, &loop};
      Assign(node.target, loop.item(), &inner);
      const Flow flow = Execute(node.body, &inner);
      if (flow == Flow::kBreak) break;
      if (flow == Flow::kNext) ended = true;
    }
    if (ended) return Flow::kNext;
    Frame inner{frame, {}};
    return Execute(node.otherwise, &inner);
  }

  // Whether a loop has the item.
  bool Passes(const Value& item, const For& node, Frame* frame) {
    if (node.condition == nullptr) return true;
    Frame inner{frame, {}};
    Assign(node.target, item, &inner);
    return Evaluate(node.condition, &inner).Truthy();
  }

  Flow Do(const Set& node, Frame* frame) {
    Assign(node.target, Evaluate(node.value, frame), frame);
    return Flow::kNext;
  }

  Flow Do(const SetBlock& node, Frame* frame) {
    Frame inner{frame, {}};
    Value value = Captured(node.body, &inner);
    for (const ExpressionPtr& filter : node.filters) {
      value = Apply(std::get<Filter>(filter->node), std::move(value), frame);
    }
    Assign(node.target, std::move(value), frame);
    return Flow::kNext;
  }

  Flow Do(const FilterBlock& node, Frame* frame) {
    Frame inner{frame, {}};
    Value value = Captured(node.body, &inner);
    for (const ExpressionPtr& filter : node.filters) {
      value = Apply(std::get<Filter>(filter->node), std::move(value), frame);
    }
    Write(PrintedOf(value, runtime_));
    return Flow::kNext;
  }

  Flow Do(const MacroDefinition& node, Frame* frame) {
    runtime_.Set(frame->names, node.macro->name,
                 Callable{.macro = node.macro.get()});
    return Flow::kNext;
  }

  Flow Do(const Generation& node, Frame* frame) {
    Frame inner{frame, {}};
    return Execute(node.body, &inner);
  }

  Flow Do(const With& node, Frame* frame) {
    Frame inner{frame, {}};
    for (const auto& [name, value] : node.names) {
      runtime_.Set(inner.names, name, Evaluate(value, frame));
    }
    return Execute(node.body, &inner);
  }

  Flow Do(const Break&, Frame*) { return Flow::kBreak; }
  Flow Do(const Continue&, Frame*) { return Flow::kContinue; }

  void Assign(const Target& target, Value value, Frame* frame) {
    if (!target.attribute.empty()) {
      Namespace* space = Lookup(target.names[0], frame).AsNamespace();
      if (space == nullptr) {
        Fail(ErrorKind::kUserInput, "{} is no namespace: {}.{} can't be set",
             target.names[0], target.names[0], target.attribute);
      }
      runtime_.Set(space->items, target.attribute, std::move(value));
      return;
    }
    if (!target.tuple) {
      runtime_.Set(frame->names, target.names[0], std::move(value));
      return;
    }
    std::vector<Value> items = ItemsOf(value, runtime_);
    if (items.size() != target.names.size()) {
      Fail(ErrorKind::kUserInput, "{} values for {} names", items.size(),
           target.names.size());
    }
    for (size_t i = 0; i < items.size(); ++i) {
      runtime_.Set(frame->names, target.names[i], std::move(items[i]));
    }
  }

  // --- Expressions.

  Value Evaluate(const ExpressionPtr& expression, Frame* frame) {
    const Level level(this);
    line_ = expression->line;
    return std::visit([&](const auto& node) { return Get(node, frame); },
                      expression->node);
  }

  Value Lookup(const std::string& name, const Frame* frame) {
    for (; frame != nullptr; frame = frame->parent) {
      if (const Value* value = runtime_.Find(frame->names, name)) return *value;
    }
    if (const NativeFunction function = FindGlobal(name)) {
      return Callable{.native = function};
    }
    return Value::MakeUndefined(name);
  }

  Value Get(const LoopAttribute& node, Frame* frame) {
    while (frame != nullptr && frame->loop == nullptr) frame = frame->parent;
    if (node.name.empty()) {
      return frame == nullptr ? Value::MakeUndefined("loop") : LoopItself();
    }
    if (frame == nullptr) {
      Fail(ErrorKind::kUserInput, "loop, which is undefined, has no \"{}\"",
           node.name);
    }
    return frame->loop->Attribute(node.name);
  }

  // Like a function, hardly anything can be done with it.
  static Value LoopItself() {
    return Callable{.native = [](Call&) -> Value {
                      Fail(ErrorKind::kUnsupported, "loop can't be called");
                    },
                    .is_loop = true};
  }

  Value Get(const Literal& node, Frame*) { return node.value; }

  Value Get(const Name& node, Frame* frame) { return Lookup(node.name, frame); }

  Value Get(const ListDisplay& node, Frame* frame) {
    std::vector<Value> items;
    for (const ExpressionPtr& item : node.items) {
      items.push_back(Evaluate(item, frame));
    }
    return Value::MakeList(std::move(items),
                           node.tuple ? Kind::kTuple : Kind::kList);
  }

  Value Get(const DictDisplay& node, Frame* frame) {
    MappingItems items;
    for (const auto& [key_node, value_node] : node.items) {
      const Value key = Evaluate(key_node, frame);
      Value value = Evaluate(value_node, frame);
      runtime_.Set(items, key, std::move(value));
    }
    return Value::MakeMapping(std::move(items));
  }

  Value Get(const Attribute& node, Frame* frame) {
    return AttributeOf(Evaluate(node.object, frame), node.name, runtime_);
  }

  Value Get(const Item& node, Frame* frame) {
    const Value object = Evaluate(node.object, frame);
    return ItemOf(object, Evaluate(node.key, frame), runtime_);
  }

  Value Get(const Slice& node, Frame* frame) {
    const Value object = Evaluate(node.object, frame);
    const auto bound =
        [&](const ExpressionPtr& part) -> std::optional<int64_t> {
      const Value value = part ? Evaluate(part, frame) : Value(None{});
      if (value.IsNone()) return std::nullopt;
      return IntegerOf(value, "the bound of a slice");
    };
    const auto start = bound(node.start);
    const auto stop = bound(node.stop);
    return SliceOf(object, start, stop, bound(node.step), runtime_);
  }

  Arguments EvaluateArguments(const CallArguments& node, Frame* frame) {
    Arguments arguments;
    for (const ExpressionPtr& value : node.positional) {
      arguments.positional.push_back(Evaluate(value, frame));
    }
    for (const auto& [name, value] : node.named) {
      arguments.named.emplace_back(name, Evaluate(value, frame));
    }
    return arguments;
  }

  Value CallNative(NativeFunction function, Arguments arguments) {
    Call call(&runtime_, std::move(arguments));
    return function(call);
  }

  Value Get(const CallExpression& node, Frame* frame) {
    const Value function = Evaluate(node.function, frame);
    const Callable* callable = function.AsCallable();
    if (callable == nullptr) {
      Fail(ErrorKind::kUserInput, "{} can't be called", function.TypeName());
    }
    Arguments arguments = EvaluateArguments(node.arguments, frame);
    if (callable->macro != nullptr) {
      return CallMacro(*callable->macro, std::move(arguments));
    }
    if (callable->self != nullptr) {
      arguments.positional.insert(arguments.positional.begin(),
                                  *callable->self);
    }
    Value result = CallNative(callable->native, std::move(arguments));
    return callable->marks ? Marked(result) : result;
  }

  // What a method of a text that went through `safe` gives: a text or several.
  static Value Marked(const Value& result) {
    if (const std::string* text = result.AsString()) {
      return Value::MakeMarkup(*text);
    }
    std::vector<Value> texts;
    for (const Value& item : result.AsSequence()->items) {
      texts.push_back(Value::MakeMarkup(*item.AsString()));
    }
    return Value::MakeList(std::move(texts));
  }

  // A macro sees its arguments and the names of the template's top.
  Value CallMacro(const Macro& macro, Arguments arguments) {
    Frame frame{root_, {}};
    const size_t given = arguments.positional.size();
    if (given > macro.parameters.size()) {
      Fail(ErrorKind::kUserInput, "macro {} has {} arguments, expected {}",
           macro.name, given, macro.parameters.size());
    }
    // In this order: a default may name the parameters before it.
    size_t used = given;
    for (size_t i = 0; i < macro.parameters.size(); ++i) {
      const auto& [name, fallback] = macro.parameters[i];
      Value value = Value::MakeUndefined(name);
      if (i < given) {
        value = std::move(arguments.positional[i]);
      } else if (Value* named = runtime_.Find(arguments.named, name)) {
        value = std::move(*named);
        ++used;
      } else if (fallback != nullptr) {
        value = Evaluate(fallback, &frame);
      }
      runtime_.Set(frame.names, name, std::move(value));
    }
    if (used != given + arguments.named.size()) {
      Fail(ErrorKind::kUserInput, "an unexpected argument of macro {}",
           macro.name);
    }
    return Captured(macro.body, &frame);
  }

  Value Apply(const Filter& node, Value subject, Frame* frame) {
    const NativeFunction filter = FindFilter(node.name);
    Arguments arguments = EvaluateArguments(node.arguments, frame);
    arguments.positional.insert(arguments.positional.begin(),
                                std::move(subject));
    return CallNative(filter, std::move(arguments));
  }

  Value Get(const Filter& node, Frame* frame) {
    return Apply(node, Evaluate(node.value, frame), frame);
  }

  Value Get(const Test& node, Frame* frame) {
    const NativeFunction test = FindTest(node.name);
    Value subject = Evaluate(node.value, frame);
    Arguments arguments = EvaluateArguments(node.arguments, frame);
    arguments.positional.insert(arguments.positional.begin(),
                                std::move(subject));
    return CallNative(test, std::move(arguments));
  }

  Value Get(const Unary& node, Frame* frame) {
    const Value operand = Evaluate(node.operand, frame);
    if (node.operation == "not") return !operand.Truthy();
    return Signed(node.operation, operand);
  }

  Value Get(const Binary& node, Frame* frame) {
    const Value left = Evaluate(node.left, frame);
    if (node.operation == "and") {
      return left.Truthy() ? Evaluate(node.right, frame) : left;
    }
    if (node.operation == "or") {
      return left.Truthy() ? left : Evaluate(node.right, frame);
    }
    return Arithmetic(node.operation, left, Evaluate(node.right, frame),
                      runtime_);
  }

  Value Get(const Comparison& node, Frame* frame) {
    Value left = Evaluate(node.first, frame);
    for (const auto& [operation, operand] : node.rest) {
      Value right = Evaluate(operand, frame);
      if (!Compare(operation, left, right)) return false;
      left = std::move(right);
    }
    return true;
  }

  bool Compare(const std::string& operation, const Value& left,
               const Value& right) {
    if (operation == "in") return IsIn(left, right, runtime_);
    if (operation == "not in") return !IsIn(left, right, runtime_);
    runtime_.Spend(left.extent().weight);
    runtime_.Spend(right.extent().weight);
    if (operation == "==") return Equal(left, right);
    if (operation == "!=") return !Equal(left, right);
    const auto order = Order(left, right);
    if (!order) return false;
    if (*order == 0) return operation.size() == 2;  // "<=" or ">="
    return (*order < 0) == operation.starts_with('<');
  }

  Value Get(const Concatenation& node, Frame* frame) {
    std::string text;
    for (const ExpressionPtr& part : node.parts) {
      const Value value = Evaluate(part, frame);
      runtime_.Spend(value.extent().weight);
      text += ToString(value);
    }
    return text;
  }

  Value Get(const Conditional& node, Frame* frame) {
    if (Evaluate(node.condition, frame).Truthy()) {
      return Evaluate(node.then, frame);
    }
    if (node.otherwise != nullptr) return Evaluate(node.otherwise, frame);
    return Value::MakeUndefined("the else of an if");
  }

  const Tree& tree_;
  Runtime runtime_;
  Frame* root_ = nullptr;
  std::string* out_ = nullptr;
  int levels_ = 0;
  int line_ = 1;
};

}  // namespace

Template::Template(std::string_view source, std::string where)
    : where_(std::move(where)) {
  if (source.size() > kMaxTemplateBytes) {
    Fail(ErrorKind::kUnsupported,
         "{}: a chat template of {} bytes; {} are the most", where_,
         source.size(), kMaxTemplateBytes);
  }
  if (ReplaceInvalidUtf8(source) != source) {
    Fail(ErrorKind::kCorruptFile, "{}: the chat template is not UTF-8", where_);
  }
  try {
    tree_ = std::make_unique<const Tree>(Parse(source));
  } catch (const Error& e) {
    Fail(e.kind(), "{}: chat template: {}", where_, e.what());
  }
}

Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

std::string Template::Render(const OrderedJson& variables) const {
  Renderer renderer(*tree_);
  try {
    return renderer.Run(variables);
  } catch (const Error& e) {
    Fail(e.kind(), "{}: chat template: line {}: {}", where_, renderer.line(),
         e.what());
  }
}

bool Template::Reads(std::string_view name) const {
  return tree_->keys.contains(name);
}

}  // namespace mobe::jinja
