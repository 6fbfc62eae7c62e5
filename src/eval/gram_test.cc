#include "eval/gram.h"

#include <gtest/gtest.h>

namespace mobe {
namespace {

// Singular values 3, 2 and 0.
TEST(GramTest, EnergyOfKnownSingularValues) {
  const float rows[] = {3, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0};
  Gram gram(3);
  gram.Add(rows, 1);
  gram.Add(rows + 3, 3);
  const Energy energy = gram.SingularValueEnergy();
  ASSERT_EQ(energy.size(), 3u);
  EXPECT_NEAR(energy[0], 9.0 / 13, 1e-6);
  EXPECT_NEAR(energy[1], 1, 1e-6);
  EXPECT_NEAR(energy[2], 1, 1e-12);
}

// More columns than a block of the Gram matrix: rows e_j have equal energy.
TEST(GramTest, EnergyAcrossBlocks) {
  constexpr int64_t kSize = 200;
  std::vector<float> rows(kSize * kSize);
  for (int64_t i = 0; i < kSize; ++i) {  // an orthogonal matrix, full
    for (int64_t j = 0; j < kSize; ++j) {
      rows[i * kSize + j] = (i == j ? 1.0F : 0.0F) - 2.0F / kSize;
    }
  }
  Gram gram(kSize);
  gram.Add(rows.data(), kSize);
  const Energy energy = gram.SingularValueEnergy();
  for (int64_t i = 0; i < kSize; ++i) {
    EXPECT_NEAR(energy[i], static_cast<double>(i + 1) / kSize, 1e-5);
  }
}

}  // namespace
}  // namespace mobe
