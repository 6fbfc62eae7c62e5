#include "model/mix_batch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "kernels/testing.h"

namespace mobe::mix_batch_test {
namespace {

// Values as stored in a dtype, and their bytes.
struct Stored {
  Stored(DType dtype, int64_t count, uint32_t seed)
      : values(EvenFloats(count, seed)), bytes(values.size() * 4) {
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

// Bases in any form, with what they are in double.
class Bases {
 public:
  explicit Bases(DType dtype)
      : values_(kBases * kRank * kCols), whole_(dtype, Size(), 1) {
    std::copy(whole_.values.begin(), whole_.values.end(), values_.begin());
    view = StoredBases(
        BasesView{dtype, whole_.bytes.data(), kBases, kRank, kCols});
  }
  Bases(DType dtype, int64_t k)
      : values_(kBases * kRank * kCols),
        left_(dtype, kBases * kRank * k, 2),
        right_(dtype, kBases * k * kCols, 3) {
    for (int64_t at = 0; at < Size(); ++at) {
      const int64_t i = at / (kRank * kCols);
      for (int64_t j = 0; j < k; ++j) {
        values_[at] += double{left_.values[at / kCols * k + j]} *
                       right_.values[(i * k + j) * kCols + at % kCols];
      }
    }
    view = StoredBases(
        BasesProducts{{dtype, left_.bytes.data(), kBases, kRank, k},
                      {dtype, right_.bytes.data(), kBases, k, kCols}});
  }
  // In 8 bits.
  Bases() : values_(kBases * kRank * kCols) {
    const std::vector<float> given = EvenFloats(Size(), 1);
    PackedBases packed{nullptr, nullptr, kBases, kRank, kCols};
    codes_.resize(static_cast<size_t>(kRank * packed.row_bytes()));
    scales_.resize(static_cast<size_t>(kRank * packed.row_scale_bytes()));
    packed.codes = codes_.data();
    packed.scales = scales_.data();
    std::vector<float> rows(static_cast<size_t>(kBases * kCols));
    for (int64_t r = 0; r < kRank; ++r) {
      for (int64_t i = 0; i < kBases; ++i) {
        std::copy_n(given.begin() + (i * kRank + r) * kCols, kCols,
                    rows.begin() + i * kCols);
      }
      EncodeBasesRow(packed, rows.data(),
                     codes_.data() + r * packed.row_bytes(),
                     scales_.data() + r * packed.row_scale_bytes());
      for (int64_t i = 0; i < kBases; ++i) {
        DecodeBases(packed, i, r, 0, kCols, rows.data());
        std::copy_n(rows.begin(), kCols,
                    values_.begin() + (i * kRank + r) * kCols);
      }
    }
    view = StoredBases(packed);
  }

  static int64_t Size() { return kBases * kRank * kCols; }
  double At(int64_t i, int64_t row, int64_t col) const {
    return values_[(i * kRank + row) * kCols + col];
  }

  StoredBases view;

 private:
  std::vector<double> values_;
  Stored whole_{DType::kF32, 0, 0};
  Stored left_{DType::kF32, 0, 0}, right_{DType::kF32, 0, 0};
  std::vector<std::byte> codes_, scales_;
};

struct Form {
  const char* name;
  Bases (*make)();
  double error;  // of u, in which some 300 products of 0.5 at most are added
};
constexpr Form kForms[] = {
    {"F32", [] { return Bases(DType::kF32); }, 1e-4},
    {"BF16", [] { return Bases(DType::kBF16); }, 1e-4},
    {"F32_products", [] { return Bases(DType::kF32, kBasisRank); }, 1e-4},
    {"BF16_products", [] { return Bases(DType::kBF16, kBasisRank); }, 1e-4},
    // Each of five alphas is off by at most 2^-15 of the largest.
    {"int8", [] { return Bases(); }, 1e-3}};

class MixBatchTest : public testing::TestWithParam<std::tuple<Form, bool>> {
 protected:
  void RunMix(Phase phase, const StoredBases& of, Activation f,
              std::span<const MixJob> jobs) const {
    if (transposed) {
      MixBatchTransposed(of, f, jobs);
    } else {
      MixBatch(of, f, phase, jobs);
    }
  }

  // NOLINTBEGIN(readability-identifier-naming): read as locals of each test
  const Form form = std::get<0>(GetParam());
  const bool transposed = std::get<1>(GetParam());
  const Bases bases = form.make();
  const int64_t inputs = transposed ? kRank : kCols;
  const int64_t outputs = transposed ? kCols : kRank;
  // NOLINTEND(readability-identifier-naming)
};

INSTANTIATE_TEST_SUITE_P(Forms, MixBatchTest,
                         testing::Combine(testing::ValuesIn(kForms),
                                          testing::Bool()),
                         [](const auto& form) {
                           return std::string(std::get<0>(form.param).name) +
                                  (std::get<1>(form.param) ? "_transposed"
                                                           : "");
                         });

// The same with NaN in bases 1, 3 and 4.
class Spoiled {
 public:
  explicit Spoiled(const StoredBases& bases) {
    view = StoredBases(
        std::visit([&](const auto& form) { return Spoil(form); }, bases.form));
  }
  StoredBases view;

 private:
  StoredBases Spoil(const BasesView& whole) {
    return StoredBases(SpoilView(whole));
  }
  StoredBases Spoil(const BasesProducts& products) {
    return StoredBases(
        BasesProducts{SpoilView(products.left), SpoilView(products.right)});
  }
  StoredBases Spoil(PackedBases packed) {
    const auto* scales = static_cast<const std::byte*>(packed.scales);
    std::vector<std::byte>& copy = copies_.emplace_back(
        scales, scales + packed.rank * packed.row_scale_bytes());
    for (size_t at = 0; at < copy.size(); at += 2 * kBases) {
      for (const size_t i : {1, 3, 4}) {
        copy[at + 2 * i] = copy[at + 2 * i + 1] = std::byte{0xff};
      }
    }
    packed.scales = copy.data();
    return StoredBases(packed);
  }
  BasesView SpoilView(const BasesView& view_of) {
    const int64_t bytes =
        view_of.rank * view_of.cols * DTypeSize(view_of.dtype);
    const auto* data = static_cast<const std::byte*>(view_of.data);
    std::vector<std::byte>& copy =
        copies_.emplace_back(data, data + kBases * bytes);
    for (const int64_t i : {1, 3, 4}) {
      std::fill_n(copy.begin() + i * bytes, bytes, std::byte{0xff});
    }
    return {view_of.dtype, copy.data(), view_of.num_bases, view_of.rank,
            view_of.cols};
  }

  std::deque<std::vector<std::byte>> copies_;
};

TEST_P(MixBatchTest, IsTheMixAndTheProduct) {
  std::vector<float> alpha = EvenFloats(2 * kBases, 4);
  alpha[1] = alpha[2] = 0;
  std::vector<std::vector<float>> x, u;
  std::vector<MixJob> jobs;
  for (const int64_t tokens : kTokens) {
    x.push_back(EvenFloats(tokens * inputs, 5));
    u.emplace_back(static_cast<size_t>(tokens * outputs));
  }
  for (int64_t e = 0; e < 2; ++e) {
    jobs.push_back(
        {alpha.data() + e * kBases, x[e].data(), kTokens[e], u[e].data()});
  }
  std::vector<std::vector<double>> mixes;
  for (int64_t e = 0; e < 2; ++e) {
    std::vector<double>& n = mixes.emplace_back(kRank * kCols);
    for (int64_t j = 0; j < kRank * kCols; ++j) {
      double mix = 0;
      for (int64_t i = 0; i < kBases; ++i) {
        mix += alpha[e * kBases + i] * bases.At(i, j / kCols, j % kCols);
      }
      n[j] = mix / (1 + std::exp(-mix));
    }
  }
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    RunMix(phase, bases.view, Activation::kSilu, jobs);
    for (int64_t e = 0; e < 2; ++e) {
      const std::vector<double>& n = mixes[static_cast<size_t>(e)];
      for (int64_t t = 0; t < kTokens[e]; ++t) {
        for (int64_t o = 0; o < outputs; ++o) {
          double sum = 0;
          for (int64_t k = 0; k < inputs; ++k) {
            sum += (transposed ? n[k * kCols + o] : n[o * kCols + k]) *
                   x[e][t * inputs + k];
          }
          ASSERT_NEAR(u[e][t * outputs + o], sum, form.error) << e << " " << t;
        }
      }
    }
  }
}

// To the bit: each token alone, and an expert alone, in either phase.
TEST_P(MixBatchTest, NobodyChangesWhatAnotherGets) {
  constexpr int64_t kMany = 70;
  const std::vector<float> alpha = EvenFloats(2 * kBases, 4);
  const std::vector<float> x = EvenFloats(kMany * inputs, 5);
  for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
    std::vector<float> u(static_cast<size_t>(2 * kMany * outputs));
    const MixJob both[] = {
        {alpha.data(), x.data(), kMany, u.data()},
        {alpha.data() + kBases, x.data(), kMany, u.data() + kMany * outputs}};
    RunMix(phase, bases.view, Activation::kSilu, both);
    for (const int64_t t : {0, 1, 68, 69}) {
      std::vector<float> alone(static_cast<size_t>(outputs));
      const MixJob job{alpha.data() + kBases, x.data() + t * inputs, 1,
                       alone.data()};
      RunMix(phase, bases.view, Activation::kSilu, {&job, 1});
      const float* together = u.data() + (kMany + t) * outputs;
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), together)) << t;
    }
  }
}

// A basis without weight is not read: what is in it does not matter.
TEST_P(MixBatchTest, SkipsBasesOfZeroAlpha) {
  const float alpha[kBases] = {0.5f, 0, -1.5f, 0, 0};
  const auto run = [&](const StoredBases& of, Phase phase, int64_t tokens) {
    const std::vector<float> x = EvenFloats(tokens * inputs, 5);
    std::vector<float> u(static_cast<size_t>(tokens * outputs));
    const MixJob job{alpha, x.data(), tokens, u.data()};
    RunMix(phase, of, Activation::kTanh, {&job, 1});
    return u;
  };
  const Spoiled spoiled(bases.view);
  for (const int64_t tokens : kTokens) {
    for (const Phase phase : {Phase::kPrefill, Phase::kDecode}) {
      EXPECT_EQ(run(spoiled.view, phase, tokens),
                run(bases.view, phase, tokens));
    }
  }
}

TEST(ExpandBasesTest, MultipliesOut) {
  const Bases bases(DType::kBF16, kBasisRank);
  std::vector<float> product(kBases * kRank * kCols);
  ExpandBases(bases.view, product.data());
  for (int64_t j = 0; j < kBases * kRank * kCols; j += 7) {
    ASSERT_NEAR(product[j],
                bases.At(j / (kRank * kCols), j / kCols % kRank, j % kCols),
                1e-5);
  }
}

TEST(MixExpertTest, IsTheMix) {
  const std::vector<float> alpha = EvenFloats(kBases, 4);
  for (const Form& form : kForms) {
    const Bases bases = form.make();
    const float* n = MixExpert(bases.view, alpha.data(), Activation::kIdentity);
    for (int64_t at = 0; at < kRank * kCols; ++at) {
      double mix = 0;
      for (int64_t i = 0; i < kBases; ++i) {
        mix += alpha[i] * bases.At(i, at / kCols, at % kCols);
      }
      ASSERT_NEAR(n[at], mix, form.error) << form.name;
    }
  }
}

TEST(StoredBasesTest, Bytes) {
  EXPECT_EQ(Bases(DType::kF32).view.bytes(), 4 * 5 * 70 * 300);
  EXPECT_EQ(Bases(DType::kBF16, kBasisRank).view.bytes(),
            2 * 5 * 6 * (70 + 300));
  // 19 blocks of two quads at 16 columns, two groups of five scales.
  EXPECT_EQ(Bases().view.bytes(), 70 * (19 * 2 * 64 + 2 * 5 * 2));
}

}  // namespace
}  // namespace mobe::mix_batch_test
