#include "mobe/parts.h"

#include <gtest/gtest.h>

#include "base/testing.h"

namespace mobe {
namespace {

TEST(PartsTest, PartFormats) {
  for (const char* text :
       {"down=int5", "down.3=int5", "bases.0-12=int6", "head=int8"}) {
    EXPECT_EQ(TextOf(PartFormatOf(text)), text);
  }
  for (const char* text :
       {"", "down", "down=", "down=bf16", "down=int7", "ups=int4", "=int4",
        "down.=int4", "down.x=int4", "down.3-=int4", "down.-3=int4",
        "down.4-3=int4", "down.3-4x=int4", "down.3.4=int4"}) {
    ExpectError(ErrorKind::kUserInput, "is no part and format",
                [&] { PartFormatOf(text); });
  }
}

// The last that fits holds, and the parts that are named stay for the rest.
TEST(PartsTest, FormatsOfLayers) {
  const PackRule rule{
      FormatFromName("int8"),
      {QuantPartFromName("attention")},
      {PartFormatOf("down.1-2=int4"), PartFormatOf("down.2=int3")}};
  const auto format = [&](Role role, int64_t layer) {
    TensorSpec spec;
    spec.role = role;
    spec.layer = layer;
    spec.shape = {64, 64};
    const FormatRow* row = FormatFor(spec, rule);
    return row == nullptr ? std::string("none") : std::string(row->name);
  };
  EXPECT_EQ(format(Role::kExpertDown, 0), "none");
  EXPECT_EQ(format(Role::kExpertDown, 1), "int4");
  EXPECT_EQ(format(Role::kExpertDown, 2), "int3");
  EXPECT_EQ(format(Role::kExpertDown, 3), "none");
  EXPECT_EQ(format(Role::kQuery, 2), "int8");
}

}  // namespace
}  // namespace mobe
