// Feeds text to ParseJson, and reads whatever config comes out in every way.
#include "check.h"
#include "io/config.h"

namespace mobe {
namespace {

void ReadAll(const ConfigReader& config) {
  for (const auto& [name, value] : config.json().items()) {
    // As a C string, which ends at the first NUL: then another key, or none.
    const char* key = name.c_str();
    AllowRefusal([&] { Check(config.Size(key) >= 1); });
    AllowRefusal([&] { Check(config.Count(key, 0) <= kMaxConfigSize); });
    AllowRefusal([&] { Check(config.Number(key, 0) * 0 == 0); });
    AllowRefusal([&] { config.Bool(key, false); });
    AllowRefusal([&] { config.String(key, ""); });
    AllowRefusal([&] {
      for (const int64_t count : config.Counts(key)) Check(count >= 0);
    });
    AllowRefusal([&] { ReadAll(config.Object(key)); });
  }
}

}  // namespace
}  // namespace mobe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  mobe::AllowRefusal([data, size] {
    const mobe::Json json = mobe::ParseJson(
        {reinterpret_cast<const char*>(data), size}, "config.json");
    mobe::ReadAll(mobe::ConfigReader(json, "config.json"));
  });
  return 0;
}
