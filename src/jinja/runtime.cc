#include "jinja/runtime.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"
#include "base/unicode.h"
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

// Whether the method of a text that went through `safe` gives such a text.
// Fails for those that escape what they are given.
bool GivesMarkup(std::string_view name) {
  for (const char* gives :
       {"capitalize", "lower", "lstrip", "rsplit", "rstrip", "split",
        "splitlines", "strip", "swapcase", "title", "upper"}) {
    if (name == gives) return true;
  }
  for (const char* other :
       {"count", "endswith", "find", "isdigit", "isspace", "startswith"}) {
    if (name == other) return false;
  }
  Fail(ErrorKind::kUnsupported, "{} of a str that went through safe", name);
}

// A method, or an attribute of a namespace.
std::optional<Value> OwnAttribute(const Value& object, const std::string& name,
                                  Runtime& runtime) {
  if (const Namespace* space = object.AsNamespace()) {
    if (const Value* value = runtime.Find(space->items, name)) return *value;
  }
  if (const NativeFunction method = FindMethod(object, name)) {
    return Callable{.native = method,
                    .self = std::make_shared<const Value>(object),
                    .marks = object.IsMarkup() && GivesMarkup(name)};
  }
  return std::nullopt;
}

std::optional<Value> OwnItem(const Value& object, const Value& key,
                             Runtime& runtime) {
  const auto index = key.AsInteger();
  // What can't be a key is none.
  const Sequence* tuple = key.AsSequence();
  const bool is_key = key.AsMapping() == nullptr &&
                      (tuple == nullptr || tuple->kind == Kind::kTuple);
  if (const Mapping* mapping = object.AsMapping(); mapping && is_key) {
    if (const Value* value = runtime.Find(mapping->items, key)) return *value;
  }
  if (const Sequence* sequence = object.AsSequence();
      sequence && index &&
      (sequence->IsListOrTuple() || sequence->kind == Kind::kRange)) {
    const auto position = Position(*index, sequence->items.size());
    if (position) return sequence->items[*position];
  }
  if (const std::string* text = object.AsString(); text && index) {
    runtime.Spend(text->size());
    const std::u32string characters = python::Decode(*text);
    const auto position = Position(*index, characters.size());
    if (position) {
      std::string character = python::Encode(characters.substr(*position, 1));
      if (object.IsMarkup()) return Value::MakeMarkup(std::move(character));
      return character;
    }
  }
  return std::nullopt;
}

void CheckHasItems(const Value& object, std::string_view key, bool attribute) {
  if (object.IsUndefined()) {
    Fail(ErrorKind::kUserInput, "{} has no {}", object.TypeName(), Short(key));
  }
  // loop, macros and ranges have attributes of their own in jinja2.
  const Sequence* sequence = object.AsSequence();
  if (object.AsCallable() != nullptr ||
      (sequence != nullptr && !sequence->IsListOrTuple() && attribute)) {
    Fail(ErrorKind::kUnsupported, "{} of {} is not supported", Short(key),
         object.TypeName());
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

const Value* Runtime::Find(const MappingItems& items, const Value& key) {
  const std::string* text = key.AsString();
  if (text == nullptr) (void)KeyText(key);  // fails for what is no key
  uint64_t work = kStep;
  auto it = items.begin();
  for (; it != items.end(); ++it) {
    ++work;
    const std::string* other = it->first.AsString();
    if ((text == nullptr) != (other == nullptr)) continue;
    if (text != nullptr && text->size() != other->size()) continue;
    work += it->first.extent().weight;
    if (text != nullptr ? *text == *other : Equal(it->first, key)) break;
  }
  Spend(work);
  return it == items.end() ? nullptr : &it->second;
}

void Runtime::Set(MappingItems& items, const Value& key, Value value) {
  if (const Value* known = Find(items, key)) {
    *const_cast<Value*>(known) = std::move(value);
  } else {
    Spend(key.extent().weight);
    items.emplace_back(key, std::move(value));
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

Value Call::List(std::vector<Value> items, Kind kind) {
  runtime_->Spend(items.size() * kStep);
  return Value::MakeList(std::move(items), kind);
}

int64_t IntegerOf(const Value& value, std::string_view what) {
  const auto integer = value.AsInteger();
  if (value.AsLong() != nullptr) {
    Fail(ErrorKind::kUnsupported, "{} is an integer beyond 64 bits", what);
  }
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

std::string PrintedOf(const Value& value, Runtime& runtime) {
  runtime.Spend(value.extent().weight);
  return ToString(value);
}

bool Given(const Value* argument) {
  return argument != nullptr && !argument->IsNone();
}

bool Flag(const Value* argument) {
  return argument != nullptr && argument->Truthy();
}

Path::Path(const Value& path, Runtime* runtime) : runtime_(runtime) {
  if (path.AsInteger()) {
    keys_.push_back(path);
  } else {
    Add(TextOf(path, "an attribute"));
  }
}

Path::Path(std::string_view path, Runtime* runtime) : runtime_(runtime) {
  Add(path);
}

// An index has digits only.
void Path::Add(std::string_view path) {
  runtime_->Spend(path.size());
  python::Split(path, ".", -1, python::From::kLeft, [&](std::string_view part) {
    runtime_->Spend(kTextStep);
    const bool number =
        part.find_first_not_of("0123456789") == std::string_view::npos;
    const auto index = number ? Value::ReadInteger(part) : std::nullopt;
    keys_.push_back(index ? *index : Value(std::string(part)));
  });
}

Iteration::Iteration(Value value, Runtime* runtime)
    : value_(std::move(value)), runtime_(runtime) {
  const Sequence* sequence = value_.AsSequence();
  const bool iterable = sequence != nullptr || value_.AsMapping() ||
                        value_.AsString() || value_.IsUndefined();
  if (!iterable) {
    Fail(ErrorKind::kUserInput, "{} has no items to go through",
         value_.TypeName());
  }
  if (sequence == nullptr || sequence->kind != Kind::kIterator) return;
  if (sequence->lent) {
    Fail(ErrorKind::kUnsupported,
         "an iterator that a filter goes through is used once more");
  }
  position_ = &sequence->taken;
}

std::optional<Value> Iteration::Next() {
  runtime_->Spend(kStep);
  if (const Sequence* sequence = value_.AsSequence()) {
    if (*position_ < sequence->items.size()) {
      return sequence->items[(*position_)++];
    }
  } else if (const Mapping* mapping = value_.AsMapping()) {
    if (*position_ < mapping->items.size()) {
      const Value& key = mapping->items[(*position_)++].first;
      runtime_->Spend(kTextStep + key.extent().weight);
      return key;
    }
  } else if (const std::string* text = value_.AsString()) {
    if (*position_ < text->size()) {
      runtime_->Spend(kTextStep);
      const std::string_view rest = std::string_view(*text).substr(*position_);
      const size_t size = FirstCharacter(rest).size;
      *position_ += size;
      return Value(std::string(rest.substr(0, size)));
    }
  }
  return std::nullopt;
}

std::optional<int64_t> LengthOf(const Value& value, Runtime& runtime) {
  if (const Sequence* sequence = value.AsSequence()) {
    if (sequence->kind == Kind::kIterator) return std::nullopt;
    return static_cast<int64_t>(sequence->items.size());
  }
  if (const Mapping* mapping = value.AsMapping()) {
    return static_cast<int64_t>(mapping->items.size());
  }
  if (const std::string* text = value.AsString()) {
    runtime.Spend(text->size());
    return python::Length(*text);
  }
  if (value.IsUndefined()) return 0;
  return std::nullopt;
}

std::vector<Value> ItemsOf(const Value& value, Runtime& runtime) {
  std::vector<Value> items;
  Iteration iteration(value, &runtime);
  while (std::optional<Value> item = iteration.Next()) {
    items.push_back(std::move(*item));
  }
  return items;
}

std::vector<Value> PairsOf(const Mapping& mapping, Runtime& runtime) {
  std::vector<Value> pairs;
  for (const auto& [key, value] : mapping.items) {
    runtime.Spend(2 * kTextStep + key.extent().weight);
    pairs.push_back(Value::MakeList({key, value}, Kind::kTuple));
  }
  return pairs;
}

Value ItemOf(const Value& object, const Value& key, Runtime& runtime) {
  const std::string* name = key.AsString();
  CheckHasItems(object, name != nullptr ? std::string_view(*name) : "items",
                name != nullptr);
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
  CheckHasItems(object, name, /*attribute=*/true);
  std::optional<Value> value = OwnAttribute(object, name, runtime);
  if (!value) value = OwnItem(object, name, runtime);
  return value ? *value : Missing(object, name, runtime);
}

Value OwnAttributeOf(const Value& object, const std::string& name,
                     Runtime& runtime) {
  CheckHasItems(object, name, /*attribute=*/true);
  const std::optional<Value> value = OwnAttribute(object, name, runtime);
  return value ? *value : Missing(object, name, runtime);
}

bool IsIn(const Value& item, const Value& value, Runtime& runtime) {
  if (const std::string* text = value.AsString()) {
    const std::string& part = TextOf(item, "what is looked for in a str");
    runtime.Spend(text->size() + part.size());
    return python::Find(*text, part) != std::string::npos;
  }
  const Sequence* sequence = value.AsSequence();
  if (sequence != nullptr && sequence->kind == Kind::kIterator) {
    Iteration iteration(value, &runtime);
    while (const std::optional<Value> other = iteration.Next()) {
      runtime.Spend(other->extent().weight);
      if (Equal(item, *other)) return true;
    }
    return false;
  }
  if (sequence != nullptr) {
    runtime.Spend(value.extent().weight);
    return std::ranges::any_of(sequence->items, [&](const Value& other) {
      return Equal(item, other);
    });
  }
  if (const Mapping* mapping = value.AsMapping()) {
    return runtime.Find(mapping->items, item) != nullptr;
  }
  if (value.IsUndefined()) return false;
  Fail(ErrorKind::kUserInput, "{} has nothing that could be in it",
       value.TypeName());
}

}  // namespace mobe::jinja
