// The parser of config.json and of safetensors headers: any bytes either parse
// or throw mobe::Error.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    mobe::ParseJson({reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const mobe::Error&) {
  }
  return 0;
}
