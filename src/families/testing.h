// What the tests of the families share: configs of the test data, as they are
// read.
#pragma once

#include <string>

#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"
#include "families/family.h"

namespace mobe::family_test {

inline const std::filesystem::path kFixtures = SourcePath("tests/data/models");

inline Json FixtureConfig(const std::string& model = "qwen3_moe") {
  return ParseJson(ReadSmallFile(kFixtures / model / "config.json"),
                   "config.json");
}

inline ModelConfig Read(const Json& json) {
  const ConfigReader reader(json, "config.json");
  return FamilyOf(reader).read_config(reader);
}

}  // namespace mobe::family_test
