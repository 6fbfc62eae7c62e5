// Feeds text to ParseJson, and reads whatever config comes out in every way.
#include <algorithm>

#include "check.h"
#include "io/config.h"

namespace mobe {
namespace {

// In use, keys are constants of the program, and nested little.
bool IsLikelyKey(const std::string& name) {
  return name.size() < 40 &&
         std::ranges::all_of(name, [](char c) { return c >= ' ' && c <= '~'; });
}

void ReadAll(const ConfigReader& config, int depth) {
  if (depth == 4) return;
  for (const auto& [name, value] : config.json().items()) {
    if (!IsLikelyKey(name)) continue;
    const char* key = name.c_str();
    AllowRefusal([&] { Check(config.Size(key) >= 1); });
    AllowRefusal([&] { Check(config.Count(key, 0) <= kMaxConfigSize); });
    AllowRefusal([&] { Check(config.Number(key, 0) * 0 == 0); });
    AllowRefusal([&] { config.Bool(key, false); });
    AllowRefusal([&] { config.String(key, ""); });
    AllowRefusal([&] {
      for (const int64_t count : config.Counts(key)) Check(count >= 0);
    });
    AllowRefusal([&] { ReadAll(config.Object(key), depth + 1); });
  }
}

}  // namespace
}  // namespace mobe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mobe::AllowRefusal([data, size] {
    const mobe::Json json = mobe::ParseJson(
        {reinterpret_cast<const char*>(data), size}, "config.json");
    mobe::ReadAll(mobe::ConfigReader(json, "config.json"), 0);
  });
  return 0;
}
