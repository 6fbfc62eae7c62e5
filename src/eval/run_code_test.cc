#include "eval/run_code.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include "base/testing.h"

namespace mobe {
namespace {

CodeResult Ran(const std::string& program) { return RunPython(program, {}); }

TEST(RunCodeTest, PassesOnlyWhatComesToItsEnd) {
  EXPECT_EQ(Ran("assert 1 + 1 == 2\nprint('x' * 100000)"), CodeResult::kPassed);
  EXPECT_EQ(Ran("assert 1 + 1 == 3"), CodeResult::kFailed);
  EXPECT_EQ(Ran("exit(0)"), CodeResult::kFailed);
  EXPECT_EQ(Ran("import os\nos._exit(0)"), CodeResult::kFailed);
  EXPECT_EQ(Ran("def f(:"), CodeResult::kFailed);
  EXPECT_EQ(Ran("import os\nos.kill(os.getpid(), 9)\nos.abort()"),
            CodeResult::kFailed);
}

TEST(RunCodeTest, IsKeptInBounds) {
  EXPECT_EQ(RunPython("while True: pass", {.seconds = 0.2}),
            CodeResult::kTimedOut);
  EXPECT_EQ(Ran("x = 'a' * (1 << 31)"), CodeResult::kFailed);
  EXPECT_EQ(Ran("import os\nassert 'HOME' not in os.environ"),
            CodeResult::kPassed);
  EXPECT_EQ(Ran("import os\nassert os.listdir() == ['program.py']"),
            CodeResult::kPassed);
  if (!CodeIsApart()) GTEST_SKIP() << "no namespaces for users here";
  EXPECT_EQ(Ran("import socket\n"
                "try:\n"
                "  socket.create_connection(('127.0.0.1', 9), 1)\n"
                "except OSError as e:\n"
                "  assert e.errno == 101, e\n"
                "else:\n"
                "  assert False"),
            CodeResult::kPassed);
  EXPECT_EQ(Ran("import os\nassert os.getpid() == 1\n"
                "assert os.listdir('/proc') == []"),
            CodeResult::kPassed);
  const TempFolder other;
  EXPECT_EQ(Ran("try:\n  open('" + (other / "x").string() +
                "', 'w')\nexcept OSError as e:\n  assert e.errno == 30, e\n"
                "else:\n  assert False"),
            CodeResult::kPassed);
}

TEST(RunCodeTest, LeavesNothing) {
  // In a folder of its own: other tests run code at the same time.
  const TempFolder folder;
  const char* const before = std::getenv("TMPDIR");
  const std::optional<std::string> kept =
      before == nullptr ? std::nullopt : std::optional<std::string>(before);
  ASSERT_EQ(::setenv("TMPDIR", folder.path().c_str(), 1), 0);
  EXPECT_EQ(Ran("open('left', 'w').write('x')"), CodeResult::kPassed);
  kept ? ::setenv("TMPDIR", kept->c_str(), 1) : ::unsetenv("TMPDIR");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace mobe
