// What runs beside a template: the bound on its work, its namespaces, and the
// filters, tests, methods and functions that it may call.
#pragma once

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/value.h"

namespace mobe::jinja {

// About the bytes that a template may look at and write, each step counted as
// kStep. The longest conversations of real models take a hundredth; at the
// bound about a second has passed.
inline constexpr uint64_t kMaxWork = 128u << 20;
inline constexpr uint64_t kStep = 16;
// A text of its own costs about as much as so many bytes of a long one.
inline constexpr uint64_t kTextStep = 100;

class Runtime {
 public:
  // Counts work, before it is done. Fails with kUnsupported beyond kMaxWork.
  void Spend(uint64_t bytes);

  // The value of the pair that has this name; null when none has. Counts what
  // is compared.
  template <class Pairs>
  auto Find(Pairs& pairs, std::string_view name)
      -> decltype(&pairs.front().second) {
    uint64_t work = kStep;
    auto it = pairs.begin();
    for (; it != pairs.end(); ++it) {
      ++work;
      if (it->first.size() != name.size()) continue;
      work += name.size();
      if (it->first == name) break;
    }
    Spend(work);
    return it == pairs.end() ? nullptr : &it->second;
  }

  // Changes that pair, or adds one at the end.
  template <class Pairs>
  void Set(Pairs& pairs, std::string_view name, Value value) {
    if (auto* known = Find(pairs, name)) {
      *known = std::move(value);
    } else {
      Spend(name.size());
      pairs.emplace_back(name, std::move(value));
    }
  }

  // The same of a dict. Fails with kUserInput for what is no key.
  const Value* Find(const MappingItems& items, const Value& key);
  void Set(MappingItems& items, const Value& key, Value value);

  // Lives as long as the runtime.
  Namespace* MakeNamespace();

 private:
  uint64_t work_ = 0;
  std::deque<Namespace> namespaces_;
};

// A call of a function of this program. Filters, tests and methods have their
// subject as first argument.
class Call {
 public:
  Call(Runtime* runtime, Arguments arguments)
      : runtime_(runtime), arguments_(std::move(arguments)) {}

  Runtime& runtime() { return *runtime_; }
  const Arguments& arguments() const { return arguments_; }

  // The arguments by the names of the parameters; null for one left out.
  // Fails with kUserInput when there are too many, one has another name, or
  // one of the first `required` is missing.
  std::vector<const Value*> Bind(std::initializer_list<std::string_view> names,
                                 size_t required) const;

  // A text as a result; counts it.
  Value Text(std::string text);
  // A list or the like as a result; counts it.
  Value List(std::vector<Value> items, Kind kind = Kind::kList);

 private:
  Runtime* runtime_;
  Arguments arguments_;
};

// One function by its name, for tables.
struct NamedFunction {
  std::string_view name;
  NativeFunction function;
};
inline NativeFunction FindNamed(std::span<const NamedFunction> table,
                                std::string_view name) {
  for (const NamedFunction& entry : table) {
    if (entry.name == name) return entry.function;
  }
  return nullptr;
}

// These fail with kUnsupported for a name that they do not know.
NativeFunction FindFilter(std::string_view name);
NativeFunction FindTest(std::string_view name);
// Null when a value of this type has no such method in Python; fails when it
// has, but mobe has not.
NativeFunction FindMethod(const Value& self, std::string_view name);
// range, namespace and the like; null for others.
NativeFunction FindGlobal(std::string_view name);

// The value as an integer or text, which `what` names in errors: kUserInput.
int64_t IntegerOf(const Value& value, std::string_view what);
const std::string& TextOf(const Value& value, std::string_view what);
// The value as text, whatever it is; counts it.
std::string PrintedOf(const Value& value, Runtime& runtime);
// Whether an argument is given, and not None; whether it is true.
bool Given(const Value* argument);
bool Flag(const Value* argument);
// Goes one by one through what a loop over the value goes through: items,
// keys, characters; nothing for an undefined value. Counts them.
class Iteration {
 public:
  // Fails with kUserInput for what has no items.
  Iteration(Value value, Runtime* runtime);
  Iteration(const Iteration&) = delete;
  Iteration& operator=(const Iteration&) = delete;

  std::optional<Value> Next();

 private:
  Value value_;
  Runtime* runtime_;
  size_t own_position_ = 0;
  size_t* position_ = &own_position_;
};

// len(value); nothing for what has none, such as an iterator.
std::optional<int64_t> LengthOf(const Value& value, Runtime& runtime);
// All that an Iteration gives.
std::vector<Value> ItemsOf(const Value& value, Runtime& runtime);
// The items of a dict, each a tuple of key and value. Counts them.
std::vector<Value> PairsOf(const Mapping& mapping, Runtime& runtime);
// object[key] and object.name. Undefined when there is none; fails with
// kUserInput when the object itself is undefined.
Value ItemOf(const Value& object, const Value& key, Runtime& runtime);
Value AttributeOf(const Value& object, const std::string& name,
                  Runtime& runtime);
// object.name, but no item of that name.
Value OwnAttributeOf(const Value& object, const std::string& name,
                     Runtime& runtime);

// "a.b" as filters take attributes: items by key or index, one after another.
class Path {
 public:
  Path(const Value& path, Runtime* runtime);
  Path(std::string_view path, Runtime* runtime);

  Value Of(Value value) const {
    for (const Value& key : keys_) value = ItemOf(value, key, *runtime_);
    return value;
  }

 private:
  void Add(std::string_view path);

  Runtime* runtime_;
  std::vector<Value> keys_;
};
// `item in value`.
bool IsIn(const Value& item, const Value& value, Runtime& runtime);

}  // namespace mobe::jinja
