#include "eval/eval_log.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/testing.h"

namespace mobe {
namespace {

const EvalTask kTask = {.name = "t",
                        .version = "1",
                        .metrics = {{"acc", MeanOfSums}, {"x", MeanOfSums}}};
const Json kRun = {{"model", "m"}, {"dtype", "float32"}};
const Score kScore = {{0.1, 1}, {3, 4}};

TEST(EvalLogTest, GoesOnWhereItWasCutOff) {
  const TempFolder folder;
  const auto file = folder / "log";
  {
    EvalLog log(file, kRun);
    EXPECT_EQ(log.found(), 0);
    log.Add("model", kTask, 0, kScore, {{"texts", {"a\n"}}});
    log.Add("base", kTask, 7, kScore, {});
    log.Flush();
  }
  const std::string whole = ReadSmallFile(file);
  // However much of the last line was written.
  for (const size_t kept : {whole.size() - 1, whole.size() - 30}) {
    WriteText(file, whole.substr(0, kept));
    EvalLog log(file, kRun);
    EXPECT_EQ(log.found(), 1);
    ASSERT_NE(log.Find("model", kTask, 0), nullptr);
    EXPECT_EQ(*log.Find("model", kTask, 0), kScore);
    EXPECT_EQ(log.Find("base", kTask, 7), nullptr);
    log.Add("base", kTask, 7, kScore, {});
    log.Flush();
    EXPECT_EQ(ReadSmallFile(file), whole);
  }
  // And of the first.
  WriteText(file, whole.substr(0, 10));
  EXPECT_EQ(EvalLog(file, kRun).found(), 0);
  EXPECT_EQ(ReadSmallFile(file), whole.substr(0, whole.find('\n') + 1));
}

TEST(EvalLogTest, RefusesWhatIsNotItsOwn) {
  const TempFolder folder;
  const auto file = folder / "log";
  const EvalLog held(file, kRun);
  ExpectError(ErrorKind::kUserInput, "another mobe is writing",
              [&] { EvalLog log(file, kRun); });
  const auto other = folder / "other";
  { EvalLog log(other, kRun); }
  const std::string whole = ReadSmallFile(other);
  ExpectError(ErrorKind::kUserInput,
              "the log of another run (dtype: \"float32\", now \"auto\")", [&] {
                Json run = kRun;
                run["dtype"] = "auto";
                EvalLog log(other, run);
              });
  EXPECT_EQ(ReadSmallFile(other), whole);
  for (const char* text : {"dear diary", "dear\ndiary\n", "{\"a\": 1}\n"}) {
    WriteText(other, text);
    ExpectError(ErrorKind::kUserInput, "no log of mobe eval",
                [&] { EvalLog log(other, kRun); });
    EXPECT_EQ(ReadSmallFile(other), text);
  }
  WriteText(other, whole);
  {
    EvalLog log(other, kRun);
    log.Add("model", kTask, 12, kScore, {});
    log.Flush();
  }
  std::string changed = ReadSmallFile(other);
  changed[changed.find("12")] = '2';
  WriteText(other, changed);
  ExpectError(ErrorKind::kCorruptFile, "line 2: damaged; remove the line",
              [&] { EvalLog log(other, kRun); });
  ExpectError(ErrorKind::kUserInput, "not a regular file",
              [&] { EvalLog log(folder.path(), kRun); });
}

}  // namespace
}  // namespace mobe
