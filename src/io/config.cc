#include "io/config.h"

#include <fmt/format.h>

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
    : json_(&json), source_(std::move(source)) {}

const Json* ConfigReader::Find(const char* key) const {
  const auto found = json_->find(key);
  return found == json_->end() || found->is_null() ? nullptr : &*found;
}

bool ConfigReader::Has(const char* key) const { return Find(key) != nullptr; }

void ConfigReader::Reject(const char* key, const std::string& what) const {
  const auto found = json_->find(key);
  Fail(ErrorKind::kCorruptFile, "{}: \"{}\" is {}, expected {}", source_, key,
       found == json_->end() ? "missing" : Excerpt(*found), what);
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
  // JSON has no infinities, and the parser refuses what overflows a double.
  if (!value->is_number()) Reject(key, "a number");
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
