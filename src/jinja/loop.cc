#include "jinja/loop.h"

#include <algorithm>
#include <iterator>

#include "base/error.h"
#include "jinja/runtime.h"

namespace mobe::jinja {
namespace {

// Of its arguments the one whose turn it is: the first is the loop's index0.
Value Cycle(Call& call) {
  const auto& given = call.arguments().positional;
  if (given.size() < 2) Fail(ErrorKind::kUserInput, "no items for cycling");
  const auto index = static_cast<size_t>(*given[0].AsInteger());
  return given[1 + index % (given.size() - 1)];
}

}  // namespace

bool Loop::Next() {
  if (!HasNext()) return false;
  previous_ = std::move(current_);
  current_ = std::move(ahead_.front());
  ahead_.pop_front();
  ++index0_;
  return true;
}

bool Loop::HasNext() {
  if (!ahead_.empty()) return true;
  std::optional<Value> next = fetch_();
  if (next) ahead_.push_back(std::move(*next));
  return !ahead_.empty();
}

int64_t Loop::Length() {
  if (!length_) {
    while (std::optional<Value> next = fetch_()) {
      ahead_.push_back(std::move(*next));
    }
    length_ = index0_ + 1 + static_cast<int64_t>(ahead_.size());
  }
  return *length_;
}

Value Loop::Attribute(std::string_view name) {
  struct Entry {
    std::string_view name;
    Value (*value)(Loop& loop);
  };
  static constexpr Entry kEntries[] = {
      {"cycle",
       [](Loop& loop) -> Value {
         return Callable{.native = Cycle,
                         .self = std::make_shared<const Value>(loop.index0_)};
       }},
      // Of recursive loops, which there are none of.
      {"depth", [](Loop&) -> Value { return int64_t{1}; }},
      {"depth0", [](Loop&) -> Value { return int64_t{0}; }},
      {"first", [](Loop& loop) -> Value { return loop.index0_ == 0; }},
      {"index", [](Loop& loop) -> Value { return loop.index0_ + 1; }},
      {"index0", [](Loop& loop) -> Value { return loop.index0_; }},
      {"last", [](Loop& loop) -> Value { return !loop.HasNext(); }},
      {"length", [](Loop& loop) -> Value { return loop.Length(); }},
      {"nextitem",
       [](Loop& loop) {
         return loop.HasNext() ? loop.ahead_.front()
                               : Value::MakeUndefined("loop.nextitem");
       }},
      {"previtem",
       [](Loop& loop) {
         return loop.previous_.value_or(Value::MakeUndefined("loop.previtem"));
       }},
      {"revindex",
       [](Loop& loop) -> Value { return loop.Length() - loop.index0_; }},
      {"revindex0",
       [](Loop& loop) -> Value { return loop.Length() - loop.index0_ - 1; }}};
  const auto* entry = std::ranges::find(kEntries, name, &Entry::name);
  if (entry == std::end(kEntries)) {
    Fail(ErrorKind::kUnsupported, "loop.{} is not supported", name);
  }
  return entry->value(*this);
}

}  // namespace mobe::jinja
