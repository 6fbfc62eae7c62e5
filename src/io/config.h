// Typed reading of config.json, with errors that name file and key. A reader
// remembers what it was asked for, so that what nobody asked for can be refused
// rather than passed over.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"

namespace mobe {

// Largest integer that a size in a config may be. Beyond any model, and small
// enough that the product of two such numbers fits in 63 bits.
inline constexpr int64_t kMaxConfigSize = int64_t{1} << 31;

// Each reader fails with kMissing when the key is missing or null (where there
// is no fallback), with kCorruptFile when it is of another type or out of
// range:
//   <source>: "hidden_size" is "sixteen", expected an integer from 1 to ...
// With a fallback, a missing or null key gives the fallback.
class ConfigReader {
 public:
  // `json` must be an object and outlive the reader.
  ConfigReader(const Json& json, std::string source);

  // In [1, kMaxConfigSize].
  int64_t Size(const char* key) const;
  int64_t Size(const char* key, int64_t fallback) const;
  // In [0, kMaxConfigSize].
  int64_t Count(const char* key, int64_t fallback) const;
  // Finite: Python writes Infinity and NaN, too.
  double Number(const char* key, double fallback) const;
  bool Bool(const char* key, bool fallback) const;
  std::string String(const char* key, const std::string& fallback) const;
  // A list of integers >= 0; a single integer counts as a list of one.
  std::vector<int64_t> Counts(const char* key) const;
  // Present and not null.
  bool Has(const char* key) const;
  // The value as it is; null when the key is missing.
  const Json& Value(const char* key) const;
  // Of the names that one thing has in several versions of config.json that
  // which is there; the first when none is. Fails with kUnsupported when two
  // are and disagree.
  const char* OneOf(std::initializer_list<const char*> names) const;
  // The object under `key`, which must be there; its source is "source: key".
  ConfigReader Object(const char* key) const;

  const std::string& source() const { return source_; }
  const Json& json() const { return *json_; }

  // Fails with kUnsupported for a key that has not been asked for, unless its
  // value says nothing (null, false, an empty string, list or object) or a
  // pattern of `harmless` matches its name ('*' is any text).
  void RefuseOthers(std::span<const char* const> harmless = {}) const;

  // Fails with kCorruptFile: `<source>: "<key>" is <value>, expected <what>`;
  // with kMissing where there is none or it is null.
  [[noreturn]] void Reject(const char* key, const std::string& what) const;

 private:
  const Json* Find(const char* key) const;  // null when missing or null

  const Json* json_;
  std::string source_;
  // Copies of a reader remember together.
  std::shared_ptr<std::set<std::string, std::less<>>> asked_;
};

}  // namespace mobe
