// The values that a template computes with, as Python has them.
//
// Text is well-formed UTF-8; its characters are code points. All values are
// immutable but namespaces and iterators, as in jinja2's
// ImmutableSandboxedEnvironment, so that copies share what they hold and
// nothing can hold itself.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/ordered_json.h"

namespace mobe::jinja {

class Value;
class Call;
struct Macro;

// What a name stands for that nothing was assigned to. It prints as nothing
// and is false; hardly anything else can be done with it.
struct Undefined {
  std::shared_ptr<const std::string> name;
};

struct None {};

// How large a value is when all of it is walked through. Values share what they
// hold, so a few steps can make one that printed would fill any disk.
struct Extent {
  int depth = 0;        // levels of lists and dicts
  uint64_t weight = 1;  // about the bytes that it prints as, saturating
};

// What holds items one behind the other. All but lists and tuples can do less;
// an iterator, which map, select and the like give, can only be gone through,
// and once.
enum class Kind { kList, kTuple, kRange, kKeys, kValues, kPairs, kIterator };

// Of a range, as Python's repr has it.
struct Bounds {
  int64_t start = 0;
  int64_t stop = 0;
  int64_t step = 1;
};

struct Sequence {
  std::vector<Value> items;
  Kind kind = Kind::kList;
  Extent extent;
  Bounds bounds = {};  // of a range
  // Of an iterator: how many items have been taken, and whether a filter has
  // got the rest of them, to take when it likes.
  mutable size_t taken = 0;
  mutable bool lent = false;

  bool IsListOrTuple() const {
    return kind == Kind::kList || kind == Kind::kTuple;
  }
};

// A dict, in the order of insertion. Keys are what Python can hash: texts
// mostly, numbers, None, tuples of them; 1, 1.0 and True are one key.
using MappingItems = std::vector<std::pair<Value, Value>>;
struct Mapping {
  MappingItems items;
  Extent extent;
};

// An integer beyond 64 bits, by its decimal digits. It can be printed and
// compared, not computed with.
struct LongInteger {
  std::shared_ptr<const std::string> digits;
};

// namespace(): the one thing that changes. The runtime owns them, so that what
// is in one may hold it.
struct Namespace {
  std::vector<std::pair<std::string, Value>> items;
};

// A function of this program, with its first argument when it is a method; or
// a macro of the template, which outlives all values; or `loop`.
using NativeFunction = Value (*)(Call& call);
struct Callable {
  NativeFunction native = nullptr;
  std::shared_ptr<const Value> self = nullptr;
  const Macro* macro = nullptr;
  bool is_loop = false;
  bool marks = false;  // the text that it gives, as MakeMarkup does
};

class Value {
 public:
  Value() : data_(Undefined{}) {}
  static Value MakeUndefined(std::string name);
  // What Python has is a value without further ado.
  // NOLINTBEGIN(google-explicit-constructor)
  Value(None none) : data_(none) {}
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(std::string value)
      : data_(std::make_shared<const std::string>(std::move(value))) {}
  Value(const char* value) : Value(std::string(value)) {}
  Value(Namespace* value) : data_(value) {}
  Value(Callable value) : data_(std::move(value)) {}
  // NOLINTEND(google-explicit-constructor)
  // These fail with kUnsupported when values nest deeper than kMaxValueDepth.
  static Value MakeList(std::vector<Value> items, Kind kind = Kind::kList);
  static Value MakeRange(std::vector<Value> numbers, Bounds bounds);
  static Value MakeMapping(MappingItems items);
  // A text that has gone through `safe`: markupsafe's Markup.
  static Value MakeMarkup(std::string text);
  // From decimal digits, which may have a sign; nothing for other texts and
  // for more digits than Python reads.
  static std::optional<Value> ReadInteger(std::string_view digits);
  // Ill-formed UTF-8 becomes U+FFFD. Of binary values, see ordered_json.h.
  static Value FromJson(const OrderedJson& json);

  bool IsUndefined() const { return Is<Undefined>(); }
  bool IsNone() const { return Is<None>(); }
  const bool* AsBool() const { return std::get_if<bool>(&data_); }
  const double* AsFloat() const { return std::get_if<double>(&data_); }
  // Also of True and False, which are 1 and 0.
  std::optional<int64_t> AsInteger() const;
  std::optional<double> AsNumber() const;
  // The digits of an integer beyond 64 bits, which the two above are not of.
  const std::string* AsLong() const;
  const std::string* AsString() const;
  bool IsMarkup() const { return markup_; }
  const Sequence* AsSequence() const;
  const Mapping* AsMapping() const;
  Namespace* AsNamespace() const;
  const Callable* AsCallable() const { return std::get_if<Callable>(&data_); }

  // For messages: "str", "dict", ...; the name of an undefined value.
  std::string TypeName() const;

  bool Truthy() const;
  Extent extent() const;

 private:
  template <class T>
  bool Is() const {
    return std::holds_alternative<T>(data_);
  }

  std::variant<Undefined, None, bool, int64_t, double, LongInteger,
               std::shared_ptr<const std::string>,
               std::shared_ptr<const Sequence>, std::shared_ptr<const Mapping>,
               Namespace*, Callable>
      data_;
  bool markup_ = false;  // a text's
};

inline constexpr int kMaxValueDepth = 100;

// The arguments of a call.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

// Python's str() and repr(). Namespaces, functions and iterators have none:
// kUnsupported.
std::string ToString(const Value& value);
std::string Repr(const Value& value);

struct JsonFormat {
  bool ensure_ascii = false;
  std::optional<std::string> indent;  // one level of it; none: on one line
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};
// Python's json.dumps(). Fails with kUserInput for what JSON can't say.
std::string ToJson(const Value& value, const JsonFormat& format);

bool Equal(const Value& a, const Value& b);
// A text that equal keys of a dict have in common, and no others. Fails with
// kUserInput for what is no key, such as a list.
std::string KeyText(const Value& key);
// Negative, 0 or positive. Fails with kUserInput for what has no order. NaN is
// in no order and gives nothing.
std::optional<int> Order(const Value& a, const Value& b);

}  // namespace mobe::jinja
