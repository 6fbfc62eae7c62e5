#include "cli/token_ids.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "io/safetensors.h"

namespace mobe {
namespace {

using testing::ElementsAre;

class TokenIdsTest : public testing::Test {
 protected:
  TokenIdsTest()
      : path_(std::filesystem::temp_directory_path() /
              ("mobe_ids_" + std::to_string(getpid()))) {}
  ~TokenIdsTest() override { std::filesystem::remove(path_); }

  TokenIds Text(const std::string& text) {
    WriteFileAtomically(path_, text);
    return ReadTokenIds(path_);
  }
  void Tensor(DType dtype, const std::vector<int64_t>& shape,
              std::span<const std::byte> data) {
    path_.replace_extension(".safetensors");
    SafetensorsWriter writer(path_, {{"ids", dtype, shape}});
    writer.Append("ids", data);
    writer.Commit();
  }

  std::filesystem::path path_;
};

TEST_F(TokenIdsTest, ReadsText) {
  const TokenIds one = Text(" 1, 2\t3 \n");
  EXPECT_FALSE(one.batched);
  EXPECT_THAT(one.sequences, ElementsAre(ElementsAre(1, 2, 3)));
  const TokenIds two = Text("1 2\r\n\n3 4");
  EXPECT_TRUE(two.batched);
  EXPECT_THAT(two.sequences, ElementsAre(ElementsAre(1, 2), ElementsAre(3, 4)));
}

TEST_F(TokenIdsTest, ReadsJson) {
  EXPECT_FALSE(Text(" [1, 2]").batched);
  const TokenIds two = Text("[[1, 2], [3]]");
  EXPECT_TRUE(two.batched);
  EXPECT_THAT(two.sequences, ElementsAre(ElementsAre(1, 2), ElementsAre(3)));
  EXPECT_TRUE(Text("[[1]]").batched);
}

TEST_F(TokenIdsTest, ReadsTensors) {
  const int64_t wide[] = {1, 2, 3, 4};
  Tensor(DType::kI64, {2, 2}, std::as_bytes(std::span(wide)));
  EXPECT_THAT(ReadTokenIds(path_).sequences,
              ElementsAre(ElementsAre(1, 2), ElementsAre(3, 4)));
  const uint16_t narrow[] = {65535, 7};
  Tensor(DType::kU16, {2}, std::as_bytes(std::span(narrow)));
  EXPECT_FALSE(ReadTokenIds(path_).batched);
  EXPECT_THAT(ReadTokenIds(path_).sequences,
              ElementsAre(ElementsAre(65535, 7)));
  const float values[] = {1};
  Tensor(DType::kF32, {1}, std::as_bytes(std::span(values)));
  EXPECT_THROW(ReadTokenIds(path_), Error);
  Tensor(DType::kI64, {2, 0}, {});
  EXPECT_THROW(ReadTokenIds(path_), Error);
  const uint64_t huge[] = {UINT64_MAX};
  Tensor(DType::kU64, {1}, std::as_bytes(std::span(huge)));
  EXPECT_THROW(ReadTokenIds(path_), Error);
}

TEST_F(TokenIdsTest, RefusesTheRest) {
  for (const char* text :
       {"", "\n", "1 x", "1.5", "-1", "2147483648", "[]", "[[]]", "[1, [2]]",
        "[[1], 2]", "[1.5]", "[-1]", "[18446744073709551615]", "[1"}) {
    EXPECT_THROW(Text(text), Error) << text;
  }
}

}  // namespace
}  // namespace mobe
