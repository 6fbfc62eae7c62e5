#include "base/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace mobe {
namespace {

TEST(DTypeTest, NamesRoundTrip) {
  for (const char* name :
       {"BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I16", "U16",
        "F16", "BF16", "I32", "U32", "F32", "I64", "U64", "F64"}) {
    const auto dtype = DTypeFromName(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_STREQ(DTypeName(*dtype), name);
  }
  EXPECT_FALSE(DTypeFromName("F13").has_value());
  EXPECT_FALSE(DTypeFromName("f32").has_value());
}

TEST(DTypeTest, EveryHalfRoundTrips) {
  for (int bits = 0; bits < 65536; ++bits) {
    const float value = HalfToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    EXPECT_EQ(FloatToHalf(value), bits);
  }
}

TEST(DTypeTest, HalfRoundsTiesToEven) {
  EXPECT_EQ(HalfToFloat(FloatToHalf(2049.0f)), 2048.0f);
  EXPECT_EQ(HalfToFloat(FloatToHalf(2051.0f)), 2052.0f);
  EXPECT_EQ(FloatToHalf(65519.99f), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(FloatToHalf(0x1p-25f), 0);    // tie to even: zero
  EXPECT_EQ(FloatToHalf(0x1.8p-24f), 2);  // tie to even: two
  EXPECT_EQ(FloatToHalf(-0x1p-24f), 0x8001);
}

TEST(DTypeTest, EveryBFloat16RoundTrips) {
  for (int bits = 0; bits < 65536; ++bits) {
    const float value = ToFloat(BFloat16{static_cast<uint16_t>(bits)});
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(ToFloat(ToBFloat16(value))));
    } else {
      EXPECT_EQ(ToBFloat16(value).bits, bits);
    }
  }
}

TEST(DTypeTest, BFloat16RoundsTiesToEven) {
  EXPECT_EQ(ToFloat(ToBFloat16(257.0f)), 256.0f);
  EXPECT_EQ(ToFloat(ToBFloat16(259.0f)), 260.0f);
  EXPECT_TRUE(
      std::isinf(ToFloat(ToBFloat16(std::numeric_limits<float>::max()))));
}

// By the definition: OCP 8-bit floating point, revision 1.0, table 1.
TEST(DTypeTest, EveryFloat8) {
  for (int bits = 0; bits < 256; ++bits) {
    const float value = ToFloat(Float8{static_cast<uint8_t>(bits)});
    const int exponent = bits >> 3 & 15;
    const int mantissa = bits & 7;
    if (exponent == 15 && mantissa == 7) {
      EXPECT_TRUE(std::isnan(value)) << bits;
      continue;
    }
    const double magnitude = exponent == 0
                                 ? std::ldexp(mantissa / 8.0, -6)
                                 : std::ldexp(1 + mantissa / 8.0, exponent - 7);
    EXPECT_EQ(value, bits & 0x80 ? -magnitude : magnitude) << bits;
    EXPECT_EQ(std::signbit(value), bits >= 0x80) << bits;
  }
  EXPECT_EQ(ToFloat(Float8{0x7e}), 448.0f);
}

// By the definition: OCP microscaling formats, revision 1.0, section 5.4.1.
TEST(DTypeTest, EveryPowerOfTwo) {
  for (int bits = 0; bits < 255; ++bits) {
    const uint8_t stored = bits;
    EXPECT_EQ(LoadAsFloat(DType::kF8E8M0, &stored, 0),
              std::ldexp(1.0f, bits - 127));
  }
  EXPECT_TRUE(std::isnan(ToFloat(PowerOfTwo{255})));
}

}  // namespace
}  // namespace mobe
