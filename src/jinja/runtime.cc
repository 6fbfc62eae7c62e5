#include "jinja/runtime.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "jinja/python_text.h"

namespace mobe::jinja {
namespace {

// Where an index leads in a list of `size`, from the end when negative.
std::optional<size_t> Position(int64_t index, size_t size) {
  const auto n = static_cast<int64_t>(size);
  if (index < -n || index >= n) return std::nullopt;
  return static_cast<size_t>(index < 0 ? index + n : index);
}

// A key for messages, however long it is.
std::string Short(std::string_view key) {
  constexpr size_t kMaxKey = 200;  // more than Excerpt keeps
  return Excerpt(key.substr(0, kMaxKey));
}

Value Missing(const Value& object, std::string_view key, Runtime& runtime) {
  runtime.Spend(kTextStep);
  return Value::MakeUndefined(
      fmt::format("{} of a {}", Short(key), object.TypeName()));
}

// A method, or an attribute of a namespace.
std::optional<Value> OwnAttribute(const Value& object, const std::string& name,
                                  Runtime& runtime) {
  if (const Namespace* space = object.AsNamespace()) {
    if (const Value* value = runtime.Find(space->items, name)) return *value;
  }
  if (const NativeFunction method = FindMethod(object, name)) {
    return Callable{.native = method,
                    .self = std::make_shared<const Value>(object)};
  }
  return std::nullopt;
}

std::optional<Value> OwnItem(const Value& object, const Value& key,
                             Runtime& runtime) {
  const std::string* name = key.AsString();
  const auto index = key.AsInteger();
  if (const Mapping* mapping = object.AsMapping(); mapping && name) {
    if (const Value* value = runtime.Find(mapping->items, *name)) return *value;
  }
  if (const Sequence* sequence = object.AsSequence(); sequence && index) {
    const auto position = Position(*index, sequence->items.size());
    if (position) return sequence->items[*position];
  }
  if (const std::string* text = object.AsString(); text && index) {
    runtime.Spend(text->size());
    const std::u32string characters = python::Decode(*text);
    const auto position = Position(*index, characters.size());
    if (position) return python::Encode(characters.substr(*position, 1));
  }
  return std::nullopt;
}

void CheckDefined(const Value& object, std::string_view key) {
  if (object.IsUndefined()) {
    Fail(ErrorKind::kUserInput, "{} has no {}", object.TypeName(), Short(key));
  }
}

}  // namespace

void Runtime::Spend(uint64_t bytes) {
  work_ = CheckedAdd(work_, bytes).value_or(UINT64_MAX);
  if (work_ > kMaxWork) {
    Fail(ErrorKind::kUnsupported,
         "the template takes more than {} million steps on this conversation",
         kMaxWork / kStep / 1000000);
  }
}

Namespace* Runtime::MakeNamespace() {
  Spend(kStep);
  return &namespaces_.emplace_back();
}

std::vector<const Value*> Call::Bind(
    std::initializer_list<std::string_view> names, size_t required) const {
  std::vector<const Value*> bound(names.size(), nullptr);
  if (arguments_.positional.size() > names.size()) {
    Fail(ErrorKind::kUserInput, "{} arguments, expected {} at most",
         arguments_.positional.size(), names.size());
  }
  for (size_t i = 0; i < arguments_.positional.size(); ++i) {
    bound[i] = &arguments_.positional[i];
  }
  for (const auto& [name, value] : arguments_.named) {
    const auto i =
        static_cast<size_t>(std::ranges::find(names, name) - names.begin());
    if (i == names.size() || bound[i] != nullptr) {
      Fail(ErrorKind::kUnsupported, "unexpected argument \"{}\"", name);
    }
    bound[i] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (bound[i] == nullptr) {
      Fail(ErrorKind::kUserInput, "the argument \"{}\" is missing",
           names.begin()[i]);
    }
  }
  return bound;
}

Value Call::Text(std::string text) {
  runtime_->Spend(text.size());
  return text;
}

Value Call::List(std::vector<Value> items) {
  runtime_->Spend(items.size() * kStep);
  return Value::MakeList(std::move(items));
}

int64_t IntegerOf(const Value& value, std::string_view what) {
  const auto integer = value.AsInteger();
  if (!integer) {
    Fail(ErrorKind::kUserInput, "{} is {}, expected an int", what,
         value.TypeName());
  }
  return *integer;
}

const std::string& TextOf(const Value& value, std::string_view what) {
  const std::string* text = value.AsString();
  if (text == nullptr) {
    Fail(ErrorKind::kUserInput, "{} is {}, expected a str", what,
         value.TypeName());
  }
  return *text;
}

std::vector<Value> ItemsOf(const Value& value, Runtime& runtime) {
  std::vector<Value> items;
  if (const Sequence* sequence = value.AsSequence()) {
    runtime.Spend(sequence->items.size() * kStep);
    items = sequence->items;
  } else if (const Mapping* mapping = value.AsMapping()) {
    for (const auto& [key, unused] : mapping->items) {
      runtime.Spend(kTextStep + key.size());
      items.emplace_back(key);
    }
  } else if (const std::string* text = value.AsString()) {
    const auto count = static_cast<uint64_t>(python::Length(*text));
    runtime.Spend(CheckedMul(count, kTextStep).value_or(kMaxWork));
    for (const char32_t c : python::Decode(*text)) {
      items.emplace_back(python::Encode({&c, 1}));
    }
  } else if (!value.IsUndefined()) {
    Fail(ErrorKind::kUserInput, "{} has no items to go through",
         value.TypeName());
  }
  return items;
}

std::vector<Value> PairsOf(const Mapping& mapping, Runtime& runtime) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : mapping.items) {
    runtime.Spend(2 * kTextStep + key.size());
    pairs.push_back(Value::MakeList({key, value}, /*tuple=*/true));
  }
  return pairs;
}

Value ItemOf(const Value& object, const Value& key, Runtime& runtime) {
  const std::string* name = key.AsString();
  CheckDefined(object, name != nullptr ? *name : "items");
  std::optional<Value> value = OwnItem(object, key, runtime);
  if (!value && name != nullptr) value = OwnAttribute(object, *name, runtime);
  if (value) return *value;
  if (name != nullptr) return Missing(object, *name, runtime);
  // Of lists and the like only the type: they may be large.
  const bool number = key.AsNumber().has_value();
  return Missing(object, number ? Repr(key) : key.TypeName(), runtime);
}

Value AttributeOf(const Value& object, const std::string& name,
                  Runtime& runtime) {
  CheckDefined(object, name);
  std::optional<Value> value = OwnAttribute(object, name, runtime);
  if (!value) value = OwnItem(object, name, runtime);
  return value ? *value : Missing(object, name, runtime);
}

bool IsIn(const Value& item, const Value& value, Runtime& runtime) {
  if (const std::string* text = value.AsString()) {
    const std::string& part = TextOf(item, "what is looked for in a str");
    runtime.Spend(text->size() + part.size());
    return python::Find(*text, part) != std::string::npos;
  }
  if (const Sequence* sequence = value.AsSequence()) {
    runtime.Spend(value.extent().weight);
    return std::ranges::any_of(sequence->items, [&](const Value& other) {
      return Equal(item, other);
    });
  }
  if (const Mapping* mapping = value.AsMapping()) {
    const std::string* key = item.AsString();
    return key != nullptr && runtime.Find(mapping->items, *key) != nullptr;
  }
  if (value.IsUndefined()) return false;
  Fail(ErrorKind::kUserInput, "{} has nothing that could be in it",
       value.TypeName());
}

}  // namespace mobe::jinja
