// Choosing a kernel set; what the sets compute is tested in kernels_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "base/error.h"
#include "kernels/kernels.h"

namespace mobe {
namespace {

TEST(KernelRegistryTest, ScalarIsLastAndTheFirstIsUsed) {
  const std::vector<KernelSet>& sets = SupportedKernels();
  ASSERT_FALSE(sets.empty());
  EXPECT_STREQ(sets.back().name, "scalar");
  for (const KernelSet& set : sets) {
    ForceKernels(set.name);
    EXPECT_STREQ(Kernels().name, set.name);
  }
  ForceKernels(sets.front().name);
}

TEST(KernelRegistryTest, UnknownNameListsTheNames) {
  try {
    ForceKernels("AVX1024");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUserInput);
    EXPECT_THAT(error.what(), testing::HasSubstr("\"AVX1024\""));
    for (const KernelSet& set : SupportedKernels()) {
      EXPECT_THAT(error.what(), testing::HasSubstr(set.name));
    }
  }
}

// In processes of their own, where no set has been chosen yet.
TEST(KernelRegistryDeathTest, EnvironmentChooses) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto name_with = [](const char* value) {
    setenv("MOBE_KERNELS", value, 1);
    try {
      std::fputs(Kernels().name, stderr);
    } catch (const Error& error) {
      std::fputs(error.what(), stderr);
    }
    std::exit(0);
  };
  const auto exits = testing::ExitedWithCode(0);
  EXPECT_EXIT(name_with("scalar"), exits, "^scalar$");
  EXPECT_EXIT(name_with(""), exits, SupportedKernels().front().name);
  EXPECT_EXIT(name_with("none"), exits, "MOBE_KERNELS.*\"none\".*scalar");
}

TEST(ActivationTest, NamesRoundTrip) {
  for (const Activation f :
       {Activation::kSilu, Activation::kTanh, Activation::kIdentity}) {
    EXPECT_EQ(ActivationFromName(ActivationName(f)), f);
  }
  EXPECT_STREQ(ActivationName(Activation::kTanh), "tanh");
  EXPECT_FALSE(ActivationFromName("relu").has_value());
  EXPECT_FALSE(ActivationFromName("SiLU").has_value());
}

}  // namespace
}  // namespace mobe
