#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <iterator>
#include <thread>
#include <vector>

#include "base/testing.h"

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

// A file above the limit of the process is as one on a full disk.
TEST_F(FileTest, FullDiskIsAnErrorThatNamesTheFile) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const rlimit limit{10, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  try {
    AtomicFile file(folder_ / "a.txt");
    file.Write("more than ten bytes");
    ADD_FAILURE() << "a full disk was not noticed";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kDiskFull);
    EXPECT_NE(std::string(e.what()).find("a.txt"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("make room"), std::string::npos);
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(FileTest, AFailedRenameLeavesNothing) {
  {
    AtomicFile file(folder_ / "a.txt");
    file.Write("x");
    fs::create_directory(folder_ / "a.txt");
    EXPECT_THROW(file.Commit(), Error);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(FileTest, TwoWritersOfOneFile) {
  const fs::path path = folder_ / "a.txt";
  AtomicFile first(path);
  first.Write("first");
  try {
    AtomicFile second(path);
    ADD_FAILURE() << "both write";
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()),
              path.string() + ": another mobe is writing this file");
  }
  first.Commit();
  EXPECT_EQ(ReadSmallFile(path), "first");
  // What a killed writer left is in nobody's way.
  std::ofstream(path.string() + std::string(kTemporaryEnding)) << "left behind";
  const FileSum sum = WriteFileAtomically(path, "abc");
  EXPECT_EQ(ReadSmallFile(path), "abc");
  EXPECT_EQ(sum.bytes, 3);
  EXPECT_EQ(sum.sha256, HashFile(path));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(FileTest, WritesOverNoDevice) {
  fs::create_symlink("/dev/full", folder_ / "full");
  EXPECT_THROW(WriteFileAtomically(folder_ / "full", "x"), Error);
  EXPECT_THROW(WriteFileAtomically(folder_, "x"), Error);
  EXPECT_TRUE(fs::is_symlink(folder_ / "full"));
  fs::create_symlink("nowhere", folder_ / "link");
  EXPECT_THROW(WriteFileAtomically(folder_ / "link", "x"), Error);
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  EXPECT_TRUE(IsNamed(folder_ / "link"));
  EXPECT_FALSE(IsNamed(folder_ / "nowhere"));
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

TEST_F(FileTest, ALinkThatPointsNowhereIsNamed) {
  const fs::path link = folder_ / "link";
  fs::create_symlink("../blobs/1", link);
  EXPECT_FALSE(Exists(link));
  EXPECT_FALSE(IsFile(link));
  for (const auto& open : std::vector<std::function<void()>>{
           [&] { MappedFile file(link); }, [&] { ReadInput(link); }}) {
    ExpectError(ErrorKind::kMissing,
                link.string() + ": a link to ../blobs/1, which is not there",
                open);
  }
}

TEST_F(FileTest, WhatIsInAFolder) {
  WriteFileAtomically(folder_ / "b", "12");
  fs::create_directory(folder_ / "a");
  EXPECT_EQ(ListFolder(folder_), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(Exists(folder_ / "a"));
  EXPECT_TRUE(IsFolder(folder_ / "a"));
  EXPECT_FALSE(IsFile(folder_ / "a"));
  EXPECT_TRUE(IsFile(folder_ / "b"));
  EXPECT_FALSE(IsFolder(folder_ / "b"));
  EXPECT_FALSE(Exists(folder_ / "b" / "c"));
  EXPECT_EQ(StampOf(folder_ / "b").bytes, 2);
}

// A link to itself stands for a disk that fails: there is no answer, and that
// is not "not there".
TEST_F(FileTest, NoAnswerIsAnError) {
  const fs::path circle = folder_ / "circle";
  fs::create_symlink("circle", circle);
  const fs::path long_name = folder_ / std::string(300, 'x');
  EXPECT_TRUE(IsNamed(circle));
  const auto expect = [](const fs::path& path, const auto& ask) {
    ExpectError(ErrorKind::kUserInput, path.string() + ": cannot be reached: ",
                [&] { (void)ask(path); });
  };
  expect(long_name, IsNamed);
  for (const fs::path& path : {circle, long_name}) {
    expect(path, Exists);
    expect(path, IsFolder);
    expect(path, IsFile);
    expect(path, ListFolder);
    expect(path, StampOf);
  }
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

// Nobody writes to it: who waited would wait for ever.
TEST(MappedFileTest, WaitsForNoFifo) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  ExpectError(ErrorKind::kMissing, "fifo: not a regular file",
              [&] { MappedFile(folder / "fifo"); });
  ExpectError(ErrorKind::kMissing, "/dev/null: not a regular file",
              [] { MappedFile("/dev/null"); });
  ExpectError(ErrorKind::kMissing, "not a regular file",
              [&] { MappedFile(folder.path()); });
}

TEST(MappedFileTest, IsFoundByAddress) {
  const TempFolder folder;
  WriteText(folder / "a", "12345");
  WriteText(folder / "b", "12345");
  const MappedFile a(folder / "a");
  {
    MappedFile moved{folder / "b"};
    const MappedFile b = std::move(moved);
    EXPECT_EQ(MappedFileAt(a.bytes().data() + 4), (folder / "a").string());
    EXPECT_EQ(MappedFileAt(b.bytes().data()), (folder / "b").string());
  }
  EXPECT_EQ(MappedFileAt(&folder), nullptr);
  EXPECT_EQ(MappedFileAt(nullptr), nullptr);
}

TEST(ReadInputTest, ReadsFilesAndPipesToTheirEnd) {
  const TempFolder folder;
  const std::string text(200'000, 'x');
  WriteText(folder / "file", text);
  EXPECT_EQ(ReadInput(folder / "file"), text);
  EXPECT_EQ(ReadInput("/dev/null"), "");
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  std::thread writer([&] { WriteText(folder / "fifo", text); });
  EXPECT_EQ(ReadInput(folder / "fifo"), text);
  writer.join();
  ExpectError(ErrorKind::kUserInput, "/dev/zero: more than 1.00 kB",
              [] { ReadInput("/dev/zero", 1000); });
  ExpectError(ErrorKind::kMissing, "cannot open",
              [&] { ReadInput(folder / "none"); });
  ExpectError(ErrorKind::kUserInput, "cannot read",
              [&] { ReadInput(folder.path()); });
}

}  // namespace
}  // namespace mobe
