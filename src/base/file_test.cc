#include "base/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

class FileTest : public ::testing::Test {
 protected:
  FileTest()
      : folder_(fs::path(::testing::TempDir()) /
                ("mobe_file_test_" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~FileTest() override { fs::remove_all(folder_); }
  const fs::path folder_;
};

TEST_F(FileTest, AtomicFileAppearsOnCommitOnly) {
  const fs::path path = folder_ / "a.txt";
  {
    AtomicFile file(path);
    file.Write("half");
    EXPECT_FALSE(fs::exists(path));
  }
  EXPECT_TRUE(fs::is_empty(folder_)) << "an abandoned file leaves nothing";
  WriteFileAtomically(path, "whole");
  EXPECT_EQ(ReadSmallFile(path), "whole");
}

TEST_F(FileTest, AbandonedRewriteKeepsTheOldContents) {
  const fs::path path = folder_ / "a.txt";
  WriteFileAtomically(path, "old");
  {
    AtomicFile file(path);
    file.Write("new");
  }
  EXPECT_EQ(ReadSmallFile(path), "old");
}

// /dev/full answers every write as a full disk does.
TEST_F(FileTest, FullDiskIsAnErrorThatNamesTheFile) {
  fs::create_symlink("/dev/full", folder_ / "a.txt.tmp");
  AtomicFile file(folder_ / "a.txt");
  try {
    file.Write("x");
    FAIL() << "a full disk was not noticed";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kDiskFull);
    EXPECT_NE(std::string(e.what()).find("a.txt"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("make room"), std::string::npos);
  }
}

TEST_F(FileTest, MissingFolderAndEmptyFiles) {
  try {
    MappedFile file(folder_ / "none");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kMissing);
  }
  EXPECT_THROW(MappedFile file(folder_), Error);
  std::ofstream(folder_ / "empty").close();
  EXPECT_TRUE(MappedFile(folder_ / "empty").bytes().empty());
  EXPECT_EQ(ReadSmallFile(folder_ / "empty"), "");
}

TEST_F(FileTest, EvictKeepsContents) {
  std::string text(100'000, 'x');
  text[70'000] = 'y';
  WriteFileAtomically(folder_ / "big", text);
  const MappedFile file(folder_ / "big");
  file.Evict(file.bytes());
  file.Evict(file.bytes().subspan(5, 10));
  EXPECT_EQ(static_cast<char>(file.bytes()[70'000]), 'y');
}

}  // namespace
}  // namespace mobe
