// What a `for` goes through, and what `loop` is in its body.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string_view>

#include "jinja/value.h"

namespace mobe::jinja {

// Items are fetched one by one, since a condition of the loop may depend on
// what its body sets. loop.last and the like look ahead as far as jinja2 does.
class Loop {
 public:
  using Fetch = std::function<std::optional<Value>()>;
  // `length`: of all items, when it is known without fetching them.
  Loop(Fetch fetch, std::optional<int64_t> length)
      : fetch_(std::move(fetch)), length_(length) {}

  bool Next();  // false: there is no other item
  const Value& item() const { return *current_; }

  // loop.name; fails with kUnsupported when there is no such thing here.
  Value Attribute(std::string_view name);

 private:
  bool HasNext();
  int64_t Length();

  Fetch fetch_;
  std::optional<int64_t> length_;
  std::deque<Value> ahead_;  // fetched before their turn
  std::optional<Value> previous_;
  std::optional<Value> current_;
  int64_t index0_ = -1;
};

}  // namespace mobe::jinja
