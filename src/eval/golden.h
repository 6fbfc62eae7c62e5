// For tests: tests/data/eval/golden.json, which make_golden.py beside it wrote.
#pragma once

#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"

namespace mobe {

inline Json EvalGolden() {
  const auto path = SourcePath("tests/data/eval/golden.json");
  return ParseJson(ReadSmallFile(path), path.string());
}

}  // namespace mobe
