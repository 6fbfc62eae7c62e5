#include "io/transposed_codes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"
#include "io/fp8.h"

namespace mobe {
namespace {

using ::testing::ElementsAre;

// A matrix of 8 rows and 16 columns, in two groups, whose codes are all
// different within a word.
struct Fixture {
  std::vector<uint32_t> words, zeros;
  std::vector<float> numbers = std::vector<float>(16, 1.0f);  // scales
  std::vector<int32_t> of_columns;
  TensorView zeros_view, scales_view, groups_view, matrix;
  TransposedCodes codes;

  Fixture(CodesOrder order, std::vector<uint32_t> all_words,
          std::vector<uint32_t> all_zeros)
      : words(std::move(all_words)), zeros(std::move(all_zeros)) {
    codes.order = order;
    codes.group_cols = 8;
    zeros_view.dtype = DType::kI32;
    zeros_view.shape = {2, 1};
    zeros_view.data = std::as_bytes(std::span(zeros));
    scales_view.shape = {2, 8};
    scales_view.data = std::as_bytes(std::span(numbers));
    codes.zeros = &zeros_view;
    codes.scales = &scales_view;
    matrix.name = "x.weight";
    matrix.dtype = DType::kI32;
    matrix.shape = {8, 16};
    matrix.data = std::as_bytes(std::span(words));
    matrix.code_bits = 4;
    matrix.transposed = &codes;
    matrix.scales = &scales_view;
  }

  void SetGroups(std::vector<int32_t> groups) {
    of_columns = std::move(groups);
    groups_view.name = "x.g_idx";
    groups_view.dtype = DType::kI32;
    groups_view.shape = {16};
    groups_view.data = std::as_bytes(std::span(of_columns));
    codes.groups = &groups_view;
  }

  // The first `count` from a place in the flat matrix.
  std::vector<float> Load(int64_t first, int64_t count) const {
    std::vector<float> out(static_cast<size_t>(count));
    LoadFloats(matrix, first, count, out.data());
    return out;
  }
};

TEST(TransposedCodesTest, AwqTurnsRows) {
  // A word for each column; the lowest bits are row 0's, then 2's, 4's, 6's.
  std::vector<uint32_t> words(16, 0x76543210u);
  words[15] = 0x89abcdefu;
  Fixture f(CodesOrder::kAwq, words, {0, 0x10000000u});
  f.numbers[8 + 7] = 0.5f;  // of row 7 in the second group
  std::vector<float> column;
  for (int64_t row = 0; row < 8; ++row) {
    column.push_back(f.Load(row * 16, 1)[0]);
  }
  EXPECT_THAT(column, ElementsAre(0, 4, 1, 5, 2, 6, 3, 7));
  // Row 7 is at the highest place, and has the zero 1 in the second group.
  EXPECT_THAT(f.Load(7 * 16 + 7, 2), ElementsAre(7, 3));
  EXPECT_THAT(f.Load(7 * 16 + 15, 1), ElementsAre(3.5f));
}

TEST(TransposedCodesTest, GptqHasEightColumnsInAWord) {
  std::vector<uint32_t> words(16, 0x76543210u);
  words[8 + 1] = 0xfedcba98u;  // row 1, columns 8 to 15
  const Fixture f(CodesOrder::kGptq, words, {0x00000020u, 0});
  EXPECT_THAT(f.Load(0, 8), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  // Across groups and rows: row 1 has the zero 2 in the first group.
  EXPECT_THAT(f.Load(16 + 6, 4), ElementsAre(4, 5, 8, 9));
  EXPECT_THAT(f.Load(16 + 14, 4), ElementsAre(14, 15, 0, 1));
}

TEST(TransposedCodesTest, ZerosLessOneGetItBack) {
  // Zeros of 8 in the first group; 0, 1, 0, ... in the second, which borrowed.
  Fixture f(CodesOrder::kGptq, std::vector<uint32_t>(16, 0),
            {0x77777777u, 0x00000010u - 0x11111111u});
  f.codes.zeros_less_one = true;
  EXPECT_THAT(f.Load(0, 1), ElementsAre(-8));
  EXPECT_THAT(f.Load(8, 1), ElementsAre(0));
  EXPECT_THAT(f.Load(16 + 8, 1), ElementsAre(-1));
  EXPECT_THAT(f.Load(2 * 16 + 8, 1), ElementsAre(0));
}

TEST(TransposedCodesTest, ColumnsInAnyGroup) {
  Fixture f(CodesOrder::kGptq, std::vector<uint32_t>(16, 0x11111111u), {0, 0});
  f.numbers[8] = 2;  // of row 0 in the second group
  f.SetGroups({1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0});
  EXPECT_THAT(f.Load(0, 4), ElementsAre(2, 1, 2, 1));
  for (const int32_t group : {-1, 2}) {
    f.of_columns[3] = group;
    ExpectError(ErrorKind::kCorruptFile,
                "tensor \"x.g_idx\": the group of column 3 is " +
                    std::to_string(group) + ", expected 0 to 1",
                [&] { f.Load(0, 4); });
    EXPECT_THAT(f.Load(0, 3), ElementsAre(2, 1, 2));
  }
}

TEST(TransposedCodesTest, EightBits) {
  std::vector<uint32_t> words(32, 0x04030201u);
  Fixture f(CodesOrder::kGptq, words,
            {0x7f7f7f7fu, 0x7f7f7f7fu, 0x7f7f7f7fu, 0xff7f7f7fu});
  f.matrix.code_bits = 8;
  f.zeros_view.shape = {2, 2};
  f.codes.zeros_less_one = true;
  EXPECT_THAT(f.Load(0, 4), ElementsAre(-127, -126, -125, -124));
  EXPECT_THAT(f.Load(7 * 16 + 7, 2), ElementsAre(-124, 1));
}

}  // namespace
}  // namespace mobe
