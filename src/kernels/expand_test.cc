#include "kernels/expand.h"

#include <gtest/gtest.h>

#include "kernels/testing.h"

namespace mobe {
namespace {

// Part of the columns, of part of the rows.
TEST(ExpandTest, EveryForm) {
  constexpr int64_t kRows = 7;
  constexpr int64_t kCols = 300;
  const Floats floats = Random(kRows * kCols);
  Array<BFloat16> halves(kRows * kCols, 0);
  Floats rounded(kRows * kCols, 0);
  for (int64_t i = 0; i < floats.size(); ++i) {
    halves[i] = ToBFloat16(floats[i]);
    rounded[i] = ToFloat(halves[i]);
  }
  const Float8Matrix bytes(kRows, kCols, 4, 128);
  const std::pair<WeightView, const Floats*> forms[] = {
      {{NumberFormat::kF32, floats.data(), kRows, kCols}, &floats},
      {{NumberFormat::kBF16, halves.data(), kRows, kCols}, &rounded},
      {bytes.view, &bytes.values}};
  for (const auto& [w, values] : forms) {
    for (const int64_t first : {0, 100, 128, 299}) {
      for (const int64_t count : {int64_t{0}, int64_t{1}, kCols - first}) {
        Floats out(4 * count, 0);
        ExpandColumns(w.Rows(2, 4), first, count, out.data());
        for (int64_t i = 0; i < out.size(); ++i) {
          ASSERT_EQ(out[i],
                    (*values)[(2 + i / count) * kCols + first + i % count])
              << RowOf(w.format).name;
        }
      }
    }
    Floats whole(kRows * kCols, 0);
    ExpandWeights(w, whole.data());
    EXPECT_TRUE(whole == *values) << RowOf(w.format).name;
  }
}

}  // namespace
}  // namespace mobe
