#include "io/config.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/visible.h"

namespace mobe {
namespace {

// The value when it is an integer in [min, kMaxConfigSize].
std::optional<int64_t> AsInteger(const Json& value, int64_t min) {
  // Checked as unsigned first: 2^63 and more would wrap as int64_t.
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(kMaxConfigSize)) {
    return std::nullopt;
  }
  if (!value.is_number_integer()) return std::nullopt;
  const auto number = value.get<int64_t>();
  if (number < min || number > kMaxConfigSize) return std::nullopt;
  return number;
}

std::string IntegerFrom(int64_t min) {
  return fmt::format("an integer from {} to {}", min,
                     FormatCount(kMaxConfigSize));
}

}  // namespace

ConfigReader::ConfigReader(const Json& json, std::string source)
    : json_(&json),
      source_(std::move(source)),
      asked_(std::make_shared<std::set<std::string, std::less<>>>()) {}

const Json* ConfigReader::Find(const char* key) const {
  asked_->insert(key);
  const auto found = json_->find(key);
  return found == json_->end() || found->is_null() ? nullptr : &*found;
}

bool ConfigReader::Has(const char* key) const { return Find(key) != nullptr; }

const Json& ConfigReader::Value(const char* key) const {
  static const Json kNull;
  const Json* value = Find(key);
  return value == nullptr ? kNull : *value;
}

const char* ConfigReader::OneOf(
    std::initializer_list<const char*> names) const {
  const char* chosen = nullptr;
  for (const char* name : names) {
    if (!Has(name)) continue;
    if (chosen != nullptr && Value(chosen) != Value(name)) {
      Fail(ErrorKind::kUnsupported,
           "{}: \"{}\" is {}, but \"{}\" is {}: they are two names of one "
           "thing; remove the wrong one",
           source_, chosen, Excerpt(Value(chosen)), name, Excerpt(Value(name)));
    }
    if (chosen == nullptr) chosen = name;
  }
  return chosen == nullptr ? *names.begin() : chosen;
}

void ConfigReader::RefuseOthers(std::span<const char* const> harmless) const {
  const auto matches = [](const std::string& key) {
    return [&key](const char* pattern) {
      return fnmatch(pattern, key.c_str(), 0) == 0;
    };
  };
  for (const auto& [key, value] : json_->items()) {
    const bool says_nothing = value.empty() || value == false || value == "";
    if (says_nothing || asked_->contains(key) ||
        std::ranges::any_of(harmless, matches(key))) {
      continue;
    }
    const Json& version = Value("transformers_version");
    Fail(ErrorKind::kUnsupported,
         "{}: mobe does not know the key {}, which is {}, and it may change "
         "what the model computes{}",
         source_, Excerpt(key), Excerpt(value),
         version.is_string() ? fmt::format(" (the file is of transformers {})",
                                           Excerpt(version))
                             : "");
  }
}

void ConfigReader::Reject(const char* key, const std::string& what) const {
  const auto found = json_->find(key);
  const bool absent = found == json_->end();
  const bool missing = absent || found->is_null();
  Fail(missing ? ErrorKind::kMissing : ErrorKind::kCorruptFile,
       "{}: \"{}\" is {}, expected {}", source_, key,
       absent ? "missing" : Excerpt(*found), what);
}

int64_t ConfigReader::Size(const char* key) const {
  const Json* value = Find(key);
  const auto size = value ? AsInteger(*value, 1) : std::nullopt;
  if (!size) Reject(key, IntegerFrom(1));
  return *size;
}

int64_t ConfigReader::Size(const char* key, int64_t fallback) const {
  return Has(key) ? Size(key) : fallback;
}

int64_t ConfigReader::Count(const char* key, int64_t fallback) const {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  const auto count = AsInteger(*value, 0);
  if (!count) Reject(key, IntegerFrom(0));
  return *count;
}

double ConfigReader::Number(const char* key, double fallback) const {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    Reject(key, "a number");
  }
  return value->get<double>();
}

bool ConfigReader::Bool(const char* key, bool fallback) const {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) Reject(key, "true or false");
  return value->get<bool>();
}

std::string ConfigReader::String(const char* key,
                                 const std::string& fallback) const {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) Reject(key, "a string");
  return value->get<std::string>();
}

std::vector<int64_t> ConfigReader::Counts(const char* key) const {
  const Json* value = Find(key);
  std::vector<int64_t> counts;
  const auto add = [&](const Json& element) {
    const auto count = AsInteger(element, 0);
    if (!count) Reject(key, IntegerFrom(0) + ", or a list of such");
    counts.push_back(*count);
  };
  if (value != nullptr && value->is_array()) {
    for (const Json& element : *value) add(element);
  } else {
    add(value == nullptr ? Json() : *value);
  }
  return counts;
}

ConfigReader ConfigReader::Object(const char* key) const {
  const Json* value = Find(key);
  if (value == nullptr || !value->is_object()) Reject(key, "an object");
  return {*value, source_ + ": " + key};
}

}  // namespace mobe
