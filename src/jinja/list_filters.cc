// Filters that put lists and dicts in order, or into parts.
#include <algorithm>
#include <bit>
#include <unordered_set>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "jinja/arithmetic.h"
#include "jinja/filters.h"
#include "jinja/python_text.h"

namespace mobe::jinja {
namespace {

// What an item is compared by.
struct Keyed {
  Value key;
  Value item;
};

Value WithoutCase(const Value& value, Runtime& runtime) {
  const std::string* text = value.AsString();
  if (text == nullptr) return value;
  runtime.Spend(text->size());
  return python::Lower(*text);
}

bool IsLess(const Value& a, const Value& b) {
  const auto order = Order(a, b);
  if (!order) Fail(ErrorKind::kUnsupported, "nan has no place in an order");
  return *order < 0;
}

// For what compares each of `count` items with some others.
void SpendOnOrder(const Value& items, size_t count, Runtime& runtime) {
  const auto rounds = static_cast<uint64_t>(std::bit_width(count)) + 1;
  runtime.Spend(
      CheckedMul(items.extent().weight + kStep, rounds).value_or(kMaxWork));
}

// Equal ones stay in their order, also in the reverse one.
std::vector<Value> Sorted(std::vector<Keyed> items, bool reverse) {
  std::ranges::stable_sort(items, [&](const Keyed& a, const Keyed& b) {
    return reverse ? IsLess(b.key, a.key) : IsLess(a.key, b.key);
  });
  std::vector<Value> sorted;
  for (Keyed& item : items) sorted.push_back(std::move(item.item));
  return sorted;
}

// Gives the attribute of an item, or the item, with or without its case.
class Getter {
 public:
  Getter(const Value* attribute, const Value* case_sensitive, Runtime* runtime)
      : runtime_(runtime), lower_(!Flag(case_sensitive)) {
    if (Given(attribute)) path_.emplace(*attribute, runtime);
  }

  Value Real(const Value& item) const { return path_ ? path_->Of(item) : item; }
  Value operator()(const Value& item) const {
    return lower_ ? WithoutCase(Real(item), *runtime_) : Real(item);
  }

 private:
  Runtime* runtime_;
  bool lower_;
  std::optional<Path> path_;
};

Value Sort(Call& call) {
  const auto a =
      call.Bind({"value", "reverse", "case_sensitive", "attribute"}, 1);
  Runtime& runtime = call.runtime();
  // Several attributes have commas between them.
  std::vector<Path> paths;
  if (Given(a[3]) && a[3]->AsString() != nullptr) {
    runtime.Spend(a[3]->AsString()->size());
    python::Split(*a[3]->AsString(), ",", -1, python::From::kLeft,
                  [&](std::string_view part) {
                    runtime.Spend(kTextStep);
                    paths.emplace_back(part, &runtime);
                  });
  } else if (Given(a[3])) {
    paths.emplace_back(*a[3], &runtime);
  }
  const bool lower = !Flag(a[2]);
  const auto part = [&](const Value& value) {
    return lower ? WithoutCase(value, runtime) : value;
  };
  std::vector<Keyed> items;
  for (const Value& item : ItemsOf(*a[0], runtime)) {
    std::vector<Value> key;
    for (const Path& path : paths) key.push_back(part(path.Of(item)));
    items.push_back(
        {paths.empty() ? part(item) : call.List(std::move(key)), item});
  }
  SpendOnOrder(*a[0], items.size(), runtime);
  return Value::MakeList(Sorted(std::move(items), Flag(a[1])));
}

Value DictSort(Call& call) {
  const auto a = call.Bind({"value", "case_sensitive", "by", "reverse"}, 1);
  const Mapping* mapping = a[0]->AsMapping();
  if (mapping == nullptr) {
    Fail(ErrorKind::kUserInput, "dictsort of {}, expected a dict",
         a[0]->TypeName());
  }
  const std::string by = a[2] == nullptr ? "key" : TextOf(*a[2], "by");
  if (by != "key" && by != "value") {
    Fail(ErrorKind::kUserInput, "dictsort by {}, expected key or value",
         Excerpt(Json(by)));
  }
  std::vector<Keyed> items;
  for (const Value& pair : PairsOf(*mapping, call.runtime())) {
    const Value& key = pair.AsSequence()->items[by == "key" ? 0 : 1];
    items.push_back(
        {Flag(a[1]) ? key : WithoutCase(key, call.runtime()), pair});
  }
  SpendOnOrder(*a[0], items.size(), call.runtime());
  return Value::MakeList(Sorted(std::move(items), Flag(a[3])));
}

// The first of the smallest or largest.
template <bool largest>
Value Extreme(Call& call) {
  const auto a = call.Bind({"value", "case_sensitive", "attribute"}, 1);
  const Getter get(a[2], a[1], &call.runtime());
  std::optional<Keyed> best;
  for (const Value& item : ItemsOf(*a[0], call.runtime())) {
    Value key = get(item);
    call.runtime().Spend(key.extent().weight);
    const bool better =
        !best || (largest ? IsLess(best->key, key) : IsLess(key, best->key));
    if (better) best = {std::move(key), item};
  }
  if (best) return best->item;
  return Value::MakeUndefined("the least or largest item of nothing");
}

Value Unique(Call& call) {
  const auto a = call.Bind({"value", "case_sensitive", "attribute"}, 1);
  const Getter get(a[2], a[1], &call.runtime());
  std::unordered_set<std::string> seen;
  std::vector<Value> items;
  for (const Value& item : Borrowed(call, *a[0])) {
    const Value key = get(item);
    call.runtime().Spend(key.extent().weight + kTextStep);
    if (seen.insert(KeyText(key)).second) items.push_back(item);
  }
  return call.List(std::move(items), Kind::kIterator);
}

Value Sum(Call& call) {
  const auto a = call.Bind({"iterable", "attribute", "start"}, 1);
  std::optional<Path> path;
  if (Given(a[1])) path.emplace(*a[1], &call.runtime());
  Value sum = a[2] == nullptr ? Value(int64_t{0}) : *a[2];
  if (sum.AsString() != nullptr) {
    Fail(ErrorKind::kUserInput, "sum of str, expected numbers");
  }
  for (const Value& item : ItemsOf(*a[0], call.runtime())) {
    sum = Arithmetic("+", sum, path ? path->Of(item) : item, call.runtime());
  }
  return sum;
}

// Pairs of a key and the items that have it.
Value GroupBy(Call& call) {
  const auto a =
      call.Bind({"value", "attribute", "default", "case_sensitive"}, 2);
  const Getter get(a[1], a[3], &call.runtime());
  const auto key_of = [&](const Value& item, bool real) {
    const Value key = real ? get.Real(item) : get(item);
    return key.IsUndefined() && Given(a[2]) ? *a[2] : key;
  };
  std::vector<Keyed> items;
  for (const Value& item : ItemsOf(*a[0], call.runtime())) {
    items.push_back({key_of(item, false), item});
  }
  SpendOnOrder(*a[0], items.size(), call.runtime());
  std::vector<Value> groups;
  std::vector<Value> group;
  const auto end_group = [&] {
    if (group.empty()) return;
    const Value key = key_of(group.front(), !Flag(a[3]));
    groups.push_back(Value::MakeList({key, call.List(std::exchange(group, {}))},
                                     Kind::kTuple));
  };
  for (const Value& item : Sorted(std::move(items), /*reverse=*/false)) {
    if (!group.empty() &&
        !Equal(key_of(group.front(), false), key_of(item, false))) {
      end_group();
    }
    group.push_back(item);
  }
  end_group();
  return call.List(std::move(groups));
}

size_t CountOf(const Value& value, std::string_view what) {
  const int64_t count = IntegerOf(value, what);
  if (count < 1) {
    Fail(ErrorKind::kUnsupported, "{} is {}, expected 1 or more", what, count);
  }
  return static_cast<size_t>(count);
}

// Lists of so many items each.
Value Batch(Call& call) {
  const auto a = call.Bind({"value", "linecount", "fill_with"}, 2);
  const size_t size = CountOf(*a[1], "linecount");
  std::vector<Value> batches;
  std::vector<Value> batch;
  for (const Value& item : Borrowed(call, *a[0])) {
    if (batch.size() == size) {
      batches.push_back(call.List(std::exchange(batch, {})));
    }
    batch.push_back(item);
  }
  if (!batch.empty()) {
    if (Given(a[2])) {
      call.runtime().Spend(
          CheckedMul(size - batch.size(), kStep).value_or(kMaxWork));
      batch.resize(size, *a[2]);
    }
    batches.push_back(call.List(std::move(batch)));
  }
  return call.List(std::move(batches), Kind::kIterator);
}

// So many lists; the first ones are longer when there is a rest.
Value Slices(Call& call) {
  const auto a = call.Bind({"value", "slices", "fill_with"}, 2);
  const size_t slices = CountOf(*a[1], "slices");
  call.runtime().Spend(CheckedMul(slices, kTextStep).value_or(kMaxWork));
  const std::vector<Value> items = Borrowed(call, *a[0]);
  const size_t longer = items.size() % slices;
  std::vector<Value> lists;
  size_t begin = 0;
  for (size_t i = 0; i < slices; ++i) {
    const size_t end = begin + items.size() / slices + (i < longer ? 1 : 0);
    std::vector<Value> list(items.begin() + static_cast<int64_t>(begin),
                            items.begin() + static_cast<int64_t>(end));
    if (Given(a[2]) && i >= longer) list.push_back(*a[2]);
    lists.push_back(call.List(std::move(list)));
    begin = end;
  }
  return call.List(std::move(lists), Kind::kIterator);
}

constexpr NamedFunction kListFilters[] = {
    {"batch", Batch},        {"dictsort", DictSort},
    {"groupby", GroupBy},    {"max", Extreme<true>},
    {"min", Extreme<false>}, {"slice", Slices},
    {"sort", Sort},          {"sum", Sum},
    {"unique", Unique},
};

}  // namespace

std::span<const NamedFunction> ListFilters() { return kListFilters; }

}  // namespace mobe::jinja
