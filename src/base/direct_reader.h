// Reads parts of files past the page cache (O_DIRECT), several at a time, while
// the caller computes. Threads rather than io_uring, which containers mostly
// forbid: with requests of 2 MiB they cost nothing that shows.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace mobe {

// Of places in a file and in memory.
inline constexpr int64_t kDirectAlign = 4096;
// What is longer is read in pieces of this.
inline constexpr int64_t kDirectRequest = int64_t{2} << 20;

struct FreeAligned {
  void operator()(std::byte* memory) const;
};
using AlignedMemory = std::unique_ptr<std::byte[], FreeAligned>;
// Aligned for direct reads. Fails with kOutOfMemory.
AlignedMemory AllocateAligned(int64_t bytes);

struct DirectPart {
  int64_t file = 0;         // index into the reader's files
  int64_t offset = 0;       // a multiple of kDirectAlign
  int64_t bytes = 0;        // that are wanted
  std::byte* to = nullptr;  // aligned, with room for whole blocks
};

// Parts that are read together. Not to be moved or destroyed between Start and
// Wait.
class DirectRead {
 private:
  friend class DirectReader;
  int64_t left_ = 0;  // pieces
  int error_ = 0;     // errno of the first that failed
  int64_t failed_file_ = 0;
};

enum class Urgency { kNow, kLater };

class DirectReader {
 public:
  // Pieces that are read at a time.
  static constexpr int kInFlight = 8;

  // Opens the files. Fails with kMissing, naming the one that can't be.
  explicit DirectReader(std::vector<std::filesystem::path> paths);
  DirectReader(const DirectReader&) = delete;
  DirectReader& operator=(const DirectReader&) = delete;
  // Waits for the pieces that are being read; forgets those that are not.
  ~DirectReader();

  // Whether the page cache is passed by. Where a file system refuses that
  // (those in memory do), the kernel is asked to forget what was read.
  bool direct() const { return direct_; }
  int64_t size(int64_t file) const;

  // Begins to read. What is needed now goes before what is needed later.
  void Start(const std::vector<DirectPart>& parts, Urgency urgency,
             DirectRead* read);
  // What was started for later is needed now, as Wait says, too.
  void Hurry(const DirectRead* read);
  // Returns when all parts are there; helps to read them. Fails with kMissing,
  // naming the file, where one can't be read, or ends too early.
  void Wait(DirectRead* read);

 private:
  struct File;
  struct Piece {
    DirectPart part;
    DirectRead* read;
  };
  using Lock = std::unique_lock<std::mutex>;

  bool OpenAll(bool direct);
  void Work();
  void Read(const Piece& piece, Lock* lock);

  const std::vector<std::filesystem::path> paths_;
  std::vector<File> files_;
  bool direct_ = true;
  std::mutex mutex_;  // of what follows, and of every DirectRead
  std::condition_variable work_;
  std::condition_variable done_;
  std::deque<Piece> now_, later_;
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace mobe
