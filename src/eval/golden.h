// For tests: tests/data/eval/golden.json, which make_golden.py beside it wrote.
#pragma once

#include "base/file.h"
#include "base/json.h"

namespace mobe {

inline Json EvalGolden() {
  const char* path = MOBE_TEST_DATA "/eval/golden.json";
  return ParseJson(ReadSmallFile(path), path);
}

}  // namespace mobe
