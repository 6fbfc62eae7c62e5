#include "model/mix_batch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "base/parallel.h"

namespace mobe::mix_batch_test {
namespace {

std::vector<float> Random(int64_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(random()) / 4294967296.0f - 0.5f;
  }
  return values;
}

// Values as stored in a dtype, and their bytes.
struct Stored {
  Stored(DType dtype, int64_t count, uint32_t seed)
      : values(Random(count, seed)), bytes(values.size() * 4) {
    StoreFloats(values.data(), count, dtype, bytes.data());
    LoadAsFloats(dtype, bytes.data(), count, values.data());
  }
  std::vector<float> values;
  std::vector<std::byte> bytes;
};

// More rows and columns than a task takes, and no multiple of them.
constexpr int64_t kBases = 5;
constexpr int64_t kRank = 70;
constexpr int64_t kCols = 300;
constexpr int64_t kBasisRank = 6;
constexpr int64_t kTokens[] = {2, 11};  // below and above a matrix product's

// Bases in either form, with what they are in double.
class Bases {
 public:
  Bases(DType dtype, bool products)
      : whole_(dtype, kBases * kRank * kCols, 1),
        left_(dtype, kBases * kRank * kBasisRank, 2),
        right_(dtype, kBases * kBasisRank * kCols, 3) {
    view.whole = {dtype, products ? nullptr : whole_.bytes.data(), kBases,
                  kRank, kCols};
    if (products) {
      view.left = {dtype, left_.bytes.data(), kBases, kRank, kBasisRank};
      view.right = {dtype, right_.bytes.data(), kBases, kBasisRank, kCols};
    }
  }

  double At(int64_t i, int64_t row, int64_t col) const {
    if (!view.AreProducts()) {
      return whole_.values[(i * kRank + row) * kCols + col];
    }
    double sum = 0;
    for (int64_t k = 0; k < kBasisRank; ++k) {
      sum += double{left_.values[(i * kRank + row) * kBasisRank + k]} *
             right_.values[(i * kBasisRank + k) * kCols + col];
    }
    return sum;
  }

  StoredBases view;

 private:
  Stored whole_, left_, right_;
};

class MixBatchTest
    : public testing::TestWithParam<std::tuple<DType, bool, bool>> {};

INSTANTIATE_TEST_SUITE_P(
    Forms, MixBatchTest,
    testing::Combine(testing::Values(DType::kF32, DType::kBF16),
                     testing::Bool(), testing::Bool()),
    [](const auto& form) {
      return std::string(DTypeName(std::get<0>(form.param))) +
             (std::get<1>(form.param) ? "_products" : "") +
             (std::get<2>(form.param) ? "_transposed" : "");
    });

TEST_P(MixBatchTest, IsTheMixAndTheProduct) {
  const auto [dtype, products, transposed] = GetParam();
  const Bases bases(dtype, products);
  const int64_t inputs = transposed ? kRank : kCols;
  const int64_t outputs = transposed ? kCols : kRank;
  std::vector<float> alpha = Random(2 * kBases, 4);
  alpha[1] = alpha[2] = 0;
  std::vector<std::vector<float>> x, u;
  std::vector<MixJob> jobs;
  for (int64_t e = 0; e < 2; ++e) {
    x.push_back(Random(kTokens[e] * inputs, 5));
    u.emplace_back(static_cast<size_t>(kTokens[e] * outputs));
  }
  for (int64_t e = 0; e < 2; ++e) {
    jobs.push_back(
        {alpha.data() + e * kBases, x[e].data(), kTokens[e], u[e].data()});
  }
  const auto run = transposed ? MixBatchTransposed : MixBatch;
  run(bases.view, Activation::kSilu, jobs);
  for (int64_t e = 0; e < 2; ++e) {
    std::vector<double> n(kRank * kCols);
    for (int64_t j = 0; j < kRank * kCols; ++j) {
      double mix = 0;
      for (int64_t i = 0; i < kBases; ++i) {
        mix += alpha[e * kBases + i] * bases.At(i, j / kCols, j % kCols);
      }
      n[j] = mix / (1 + std::exp(-mix));
    }
    for (int64_t t = 0; t < kTokens[e]; ++t) {
      for (int64_t o = 0; o < outputs; ++o) {
        double sum = 0;
        for (int64_t k = 0; k < inputs; ++k) {
          sum += (transposed ? n[k * kCols + o] : n[o * kCols + k]) *
                 x[e][t * inputs + k];
        }
        ASSERT_NEAR(u[e][t * outputs + o], sum, 1e-4) << e << " " << t;
      }
    }
  }
}

// A basis without weight is not read: what is in it does not matter.
TEST_P(MixBatchTest, SkipsBasesOfZeroAlpha) {
  const auto [dtype, products, transposed] = GetParam();
  const int64_t inputs = transposed ? kRank : kCols;
  const int64_t outputs = transposed ? kCols : kRank;
  const float alpha[kBases] = {0.5f, 0, -1.5f, 0, 0};
  const auto run = [&](const StoredBases& bases, int64_t tokens) {
    const std::vector<float> x = Random(tokens * inputs, 5);
    std::vector<float> u(static_cast<size_t>(tokens * outputs));
    const MixJob job{alpha, x.data(), tokens, u.data()};
    (transposed ? MixBatchTransposed : MixBatch)(bases, Activation::kTanh,
                                                 {&job, 1});
    return u;
  };
  const Bases bases(dtype, products);
  // The same with NaN in bases 1, 3 and 4.
  const auto spoil = [&](const BasesView& view, std::vector<std::byte>* copy) {
    const int64_t bytes = view.rank * view.cols * DTypeSize(view.dtype);
    const auto* data = static_cast<const std::byte*>(view.data);
    copy->assign(data, data + kBases * bytes);
    for (const int64_t i : {1, 3, 4}) {
      std::fill_n(copy->begin() + i * bytes, bytes, std::byte{0xff});
    }
    return BasesView{view.dtype, copy->data(), view.num_bases, view.rank,
                     view.cols};
  };
  std::vector<std::byte> copies[2];
  StoredBases spoiled = bases.view;
  if (products) {
    spoiled.left = spoil(bases.view.left, &copies[0]);
    spoiled.right = spoil(bases.view.right, &copies[1]);
  } else {
    spoiled.whole = spoil(bases.view.whole, &copies[0]);
  }
  for (const int64_t tokens : kTokens) {
    EXPECT_EQ(run(spoiled, tokens), run(bases.view, tokens));
  }
}

TEST(ExpandBasesTest, MultipliesOut) {
  const Bases bases(DType::kBF16, true);
  std::vector<float> product(kBases * kRank * kCols);
  ExpandBases(bases.view, product.data());
  for (int64_t j = 0; j < kBases * kRank * kCols; j += 7) {
    ASSERT_NEAR(product[j],
                bases.At(j / (kRank * kCols), j / kCols % kRank, j % kCols),
                1e-5);
  }
}

TEST(StoredBasesTest, Bytes) {
  EXPECT_EQ(Bases(DType::kF32, false).view.bytes(), 4 * 5 * 70 * 300);
  EXPECT_EQ(Bases(DType::kBF16, true).view.bytes(), 2 * 5 * 6 * (70 + 300));
}

}  // namespace
}  // namespace mobe::mix_batch_test
