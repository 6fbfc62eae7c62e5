#include "compress/bases_rounding.h"

#include <gtest/gtest.h>

#include <cstring>

#include "compress/quantize.h"
#include "compress/testing.h"

namespace mobe::bases_rounding_test {
namespace {

constexpr auto kSilent = [](const ProgressEvent&) {};

bool SameBytes(const Buffer<std::byte>& a, std::span<const std::byte> b) {
  return static_cast<size_t>(a.size()) == b.size() &&
         std::memcmp(a.data(), b.data(), b.size()) == 0;
}

// As quantize writes them without a text, in both layouts.
TEST(BasesRoundingTest, NearestNumbersInTheLayoutOfTheFormat) {
  const QuantPart* part = QuantPartFromName("bases");
  for (const char* name : {"int8", "int5", "int3"}) {
    SCOPED_TRACE(name);
    const FormatRow* format = FormatFromName(name);
    const std::filesystem::path from = Fixture("models") / "qwen3_mobe";
    const TempFolder out;
    Quantize(OpenModel(from), out.path(), {{format, {part}}, 1 << 20, {}},
             kSilent);
    const OpenedModel before = OpenModel(from);
    const OpenedModel after = OpenModel(out.path());
    const int64_t layer = before.mobe->factors.front().layer;
    const TensorView& given = before.At(Role::kGateBases, layer);
    const TensorView& stored = after.checkpoint.At(given.name);
    Buffer<float> bases(given.elements());
    LoadFloats(given, bases.data());
    RoundedMatrix rounded;
    RoundBases(*format, bases, given.shape[0], given.shape[1], given.shape[2],
               &rounded);
    EXPECT_TRUE(SameBytes(rounded.codes, stored.data));
    EXPECT_TRUE(SameBytes(rounded.scales, stored.scales->data));
    Buffer<float> values(given.elements());
    LoadFloats(stored, values.data());
    EXPECT_EQ(std::memcmp(rounded.values.data(), values.data(),
                          static_cast<size_t>(values.size()) * sizeof(float)),
              0);
  }
}

TEST(BasesRoundingTest, RefitOfNoPassesLoadsNothing) {
  Factors factors;
  BasesJob job;
  job.load_target = []() -> FitTarget {
    ADD_FAILURE() << "loaded";
    return {};
  };
  RefitBases(0, nullptr)(job, &factors);
}

TEST(BasesRoundingTest, MoreThanThereIsMemoryForIsRefused) {
  Factors factors;
  BasesJob job;
  job.layer = 7;
  job.kind = &kUpKind;
  job.shape = {1 << 20, 1 << 14, 1 << 14, 1 << 14, 1 << 10, 0, 1};
  ExpectError(ErrorKind::kOutOfMemory, "the refit of layer 7 up",
              [&] { RefitBases(1, nullptr)(job, &factors); });
}

}  // namespace
}  // namespace mobe::bases_rounding_test
