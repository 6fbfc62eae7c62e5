#include "speed/bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"
#include "speed/bench_table.h"

namespace mobe {
namespace {

using testing::ElementsAre;

TEST(BenchCaseTest, AllCombinationsInOrder) {
  BenchLists lists = {.prompts = {512, 0},
                      .generates = {128},
                      .mixed = {{64, 8}},
                      .depths = {0, 4096},
                      .batches = {1},
                      .threads = {1, 2},
                      .loads = 2};
  const auto cases = ListCases(lists);
  ASSERT_EQ(cases.size(), 2u * 2 * 2 * 3);
  std::vector<std::string> names;
  for (size_t i = 0; i < 4; ++i) {
    names.push_back(cases[i].text.Name() + " " +
                    std::to_string(cases[i].depth));
  }
  EXPECT_THAT(names,
              ElementsAre("pp512 0", "tg128 0", "pp64+tg8 0", "pp512 4096"));
  EXPECT_EQ(cases[5].threads, 1);
  EXPECT_EQ(cases[6].threads, 2);
  EXPECT_EQ(cases[11].load, 0u);
  EXPECT_EQ(cases[12].load, 1u);
  lists.prompts = lists.generates = {0};
  lists.mixed.clear();
  ExpectError(ErrorKind::kUserInput, "nothing to time",
              [&] { ListCases(lists); });
}

TEST(BenchCaseTest, ListsOfOptions) {
  EXPECT_THAT(ParseNumbers("-p", "0,512,7", 0, 1000), ElementsAre(0, 512, 7));
  EXPECT_THAT(ParseNames("--x", "b,a,b", {"a", "b"}), ElementsAre(1, 0, 1));
  const auto mixed = ParseMixed("--mixed", "512+128,1+2", 1000);
  ASSERT_EQ(mixed.size(), 2u);
  EXPECT_EQ(mixed[1].prompt, 1);
  EXPECT_EQ(mixed[1].generate, 2);
  for (const char* text : {"", ",", "5,", "5,,6", "-1", "1001", "5x", " 5",
                           "0x5", "99999999999999999999"}) {
    ExpectError(ErrorKind::kUserInput,
                "-p " + std::string(text) +
                    ": expected whole numbers from 0 to 1,000, separated by "
                    "commas",
                [&] { ParseNumbers("-p", text, 0, 1000); });
  }
  for (const char* text : {"", "512", "512+", "+5", "1+2+3", "0+5", "5+0"}) {
    ExpectError(ErrorKind::kUserInput, "as 512+128",
                [&] { ParseMixed("--mixed", text, 1000); });
  }
  ExpectError(ErrorKind::kUserInput, "--x a,c: expected a, b, separated", [&] {
    ParseNames("--x", "a,c", {"a", "b"});
  });
}

BenchResult Decoding() {
  BenchResult result;
  result.test = {{0, 100}, 4096, 2, 0, 0};
  result.threads = 2;
  result.experts = "fused";
  result.dtype = "bfloat16";
  result.seconds = {2, 4, 4};  // 100, 50 and 50 tokens/s
  result.token_bytes = 150e6;
  result.token_operations = 6e9;
  result.peaks = {40e9, {{"float32", 100e9}, {"bfloat16", 800e9}}};
  return result;
}

TEST(BenchResultTest, Rates) {
  const BenchResult result = Decoding();
  EXPECT_DOUBLE_EQ(result.rate(), 200.0 / 3);
  EXPECT_NEAR(result.deviation(), 28.8675, 1e-4);
  EXPECT_DOUBLE_EQ(result.bytes_per_second(), 10e9);
  EXPECT_DOUBLE_EQ(result.share_of_reading(), 0.25);
  EXPECT_DOUBLE_EQ(result.share_of_products(), 0.5);
  BenchResult once = result;
  once.seconds = {2};
  EXPECT_EQ(once.deviation(), 0);
}

TEST(BenchTableTest, Forms) {
  BenchResult prompt = Decoding();
  prompt.test.text = {512, 0};
  prompt.test.depth = 0;
  prompt.experts = "plain";
  prompt.token_bytes = 0;
  const std::vector<BenchResult> results = {Decoding(), prompt};
  EXPECT_EQ(BenchMarkdown(results, SIZE_MAX),
            "| test  | depth | batch | threads | dtype    | experts | found | "
            " tok/s |     +- "
            "| MB/token |  GB/s | of reading | GFLOP/s | of products |\n"
            "| ----- | ----: | ----: | ------: | -------- | ------- | ----: | "
            "-----: | -----: "
            "| -------: | ----: | ---------: | ------: | ----------: |\n"
            "| tg100 |  4096 |     2 |       2 | bfloat16 | fused   |  1.00 | "
            " 66.67 |  28.87 "
            "|    150.0 | 10.00 |       0.25 |   400.0 |        0.50 |\n"
            "| pp512 |     0 |     2 |       2 | bfloat16 | plain   |  1.00 | "
            "341.33 | 147.80 "
            "|          |       |            |  2048.0 |        2.56 |\n");
  EXPECT_EQ(BenchMarkdown({Decoding()}, 40),
            "| test  | depth | batch | threads |\n"
            "| ----- | ----: | ----: | ------: |\n"
            "| tg100 |  4096 |     2 |       2 |\n\n"
            "| test  | dtype    | experts | found |\n"
            "| ----- | -------- | ------- | ----: |\n"
            "| tg100 | bfloat16 | fused   |  1.00 |\n\n"
            "| test  | tok/s |    +- | MB/token |\n"
            "| ----- | ----: | ----: | -------: |\n"
            "| tg100 | 66.67 | 28.87 |    150.0 |\n\n"
            "| test  |  GB/s | of reading | GFLOP/s |\n"
            "| ----- | ----: | ---------: | ------: |\n"
            "| tg100 | 10.00 |       0.25 |   400.0 |\n\n"
            "| test  | of products |\n"
            "| ----- | ----------: |\n"
            "| tg100 |        0.50 |\n");
  const std::string csv = BenchCsv(results);
  EXPECT_EQ(csv.substr(0, csv.find('\n')),
            "test,depth,batch,threads,dtype,experts,experts_found,"
            "tokens_per_second,deviation,"
            "bytes_per_token,bytes_per_second,share_of_reading,"
            "operations_per_second,share_of_products");
  EXPECT_NE(csv.find("\npp512,0,2,2,bfloat16,plain,1.0,341."), csv.npos) << csv;
  EXPECT_NE(csv.find(",,,,2048"), csv.npos) << csv;
  const Json json = BenchJson(results);
  EXPECT_EQ(json[0]["bytes_per_token"], 150e6);
  EXPECT_TRUE(json[1]["bytes_per_second"].is_null());
  EXPECT_EQ(json[0]["seconds"], Json({2.0, 4.0, 4.0}));
}

}  // namespace
}  // namespace mobe
