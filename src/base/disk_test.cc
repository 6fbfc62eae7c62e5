#include "base/disk.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "base/error.h"
#include "base/file.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

class DiskTest : public ::testing::Test {
 protected:
  DiskTest() {
    std::string name = ::testing::TempDir() + "mobe_XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~DiskTest() override { fs::remove_all(folder_); }

  fs::path folder_;
};

TEST_F(DiskTest, AsksTheNearestFolderThereIs) {
  EXPECT_GT(FreeDiskBytes(folder_), 0);
  EXPECT_GT(FreeDiskBytes(folder_ / "not/yet/there"), 0);
  EXPECT_GT(FreeDiskBytes("relative"), 0);
  EXPECT_FALSE(fs::exists(folder_ / "not"));
}

TEST_F(DiskTest, CountsBytesBelow) {
  EXPECT_EQ(BytesBelow(folder_ / "none"), 0);
  EXPECT_EQ(BytesBelow(folder_), 0);
  MakeFolder(folder_ / "a/b");
  WriteFileAtomically(folder_ / "x", "12345");
  WriteFileAtomically(folder_ / "a/b/y", "678");
  EXPECT_EQ(BytesBelow(folder_), 8);
}

TEST_F(DiskTest, SaysWhatIsNeededAndFree) {
  CheckDiskSpace(folder_, 1);
  const int64_t exabyte = 1'000'000'000'000'000'000;
  try {
    CheckDiskSpace(folder_ / "out", exabyte);
    FAIL() << "that much is free?";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kDiskFull);
    const std::string text = e.what();
    EXPECT_TRUE(text.starts_with((folder_ / "out").string() +
                                 ": needs 1000.00 PB of disk space, "))
        << text;
    EXPECT_NE(text.find(" are free on " + folder_.string() + "; free some"),
              text.npos)
        << text;
  }
}

TEST_F(DiskTest, MeasuringLeavesNothing) {
  const double few = MeasureWriting(folder_, 3'000'000);
  EXPECT_GE(few, 0);
  // More than any disk holds: it is told from a part.
  const double many = MeasureWriting(folder_, int64_t{1} << 60);
  EXPECT_EQ(many > 0, few > 0);
  EXPECT_TRUE(fs::is_empty(folder_));
  EXPECT_EQ(MeasureWriting("/proc", 1), 0);
}

}  // namespace
}  // namespace mobe
