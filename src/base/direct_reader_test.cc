#include "base/direct_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <string>

#include "base/error.h"
#include "base/testing.h"

namespace mobe::direct_reader_test {
namespace {

namespace fs = std::filesystem;

class DirectReaderTest : public testing::Test {
 protected:
  DirectReaderTest()
      : path_(fs::path(testing::TempDir()) / "direct_reader_test") {
    std::mt19937 random(1);
    // Longer than a request, and no whole number of blocks.
    bytes_.resize(static_cast<size_t>(kDirectRequest * 2 + 12345));
    for (char& byte : bytes_) byte = static_cast<char>(random());
    std::ofstream(path_, std::ios::binary) << bytes_;
  }
  ~DirectReaderTest() override { fs::remove(path_); }

  std::string Part(const AlignedMemory& memory, int64_t bytes) const {
    return {reinterpret_cast<const char*>(memory.get()),
            static_cast<size_t>(bytes)};
  }

  const fs::path path_;
  std::string bytes_;
};

TEST_F(DirectReaderTest, ReadsPartsTogether) {
  const AlignedMemory whole = AllocateAligned(std::ssize(bytes_));
  const AlignedMemory part = AllocateAligned(5000);
  DirectRead now;
  DirectRead later;
  DirectReader reader({path_});
  EXPECT_EQ(reader.size(0), std::ssize(bytes_));
  reader.Start({{0, kDirectAlign, 5000, part.get()}}, Urgency::kLater, &later);
  reader.Start({{0, 0, std::ssize(bytes_), whole.get()}}, Urgency::kNow, &now);
  reader.Wait(&now);
  reader.Wait(&later);
  EXPECT_EQ(Part(whole, std::ssize(bytes_)), bytes_);
  EXPECT_EQ(Part(part, 5000), bytes_.substr(kDirectAlign, 5000));
}

// Nobody waits for what is read later; the reader ends all the same.
TEST_F(DirectReaderTest, ForgetsWhatIsNotWaitedFor) {
  std::vector<DirectRead> reads(100);
  const AlignedMemory memory = AllocateAligned(100 * kDirectAlign);
  DirectReader reader({path_});
  std::byte* to = memory.get();
  for (DirectRead& read : reads) {
    reader.Start({{0, 0, kDirectAlign, to}}, Urgency::kLater, &read);
    to += kDirectAlign;
  }
}

TEST_F(DirectReaderTest, SaysWhatCannotBeRead) {
  const AlignedMemory memory = AllocateAligned(kDirectRequest);
  DirectRead read;
  DirectReader reader({path_});
  fs::resize_file(path_, kDirectAlign + 10);
  reader.Start({{0, 0, kDirectRequest, memory.get()}}, Urgency::kNow, &read);
  try {
    reader.Wait(&read);
    FAIL() << "a file that was cut was read";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kMissing);
    EXPECT_EQ(
        std::string(error.what()),
        path_.string() + ": cannot be read: it ends early; was it changed?");
  }
  EXPECT_THROW(DirectReader({path_.string() + "-not"}), Error);
}

}  // namespace
}  // namespace mobe::direct_reader_test
