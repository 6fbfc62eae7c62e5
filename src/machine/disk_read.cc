#include "machine/disk_read.h"

#include <algorithm>
#include <array>

#include "base/direct_reader.h"
#include "base/progress.h"

namespace mobe {
namespace {

// Below that the start counts for more than the disk.
constexpr int64_t kFewBytes = int64_t{64} << 20;

struct Request {
  AlignedMemory memory = AllocateAligned(kDirectRequest);
  DirectRead read;
  int64_t bytes = 0;  // 0: nothing is being read
};

// Gives the pieces of all files in turn.
class Pieces {
 public:
  Pieces(const DirectReader& reader, int64_t files)
      : reader_(reader), files_(files) {}

  // Without bytes when there are no more.
  DirectPart Next(std::byte* to) {
    while (file_ < files_ && at_ >= reader_.size(file_)) {
      ++file_;
      at_ = 0;
    }
    if (file_ == files_) return {};
    const DirectPart part{
        file_, at_, std::min(kDirectRequest, reader_.size(file_) - at_), to};
    at_ += kDirectRequest;
    return part;
  }

 private:
  const DirectReader& reader_;
  const int64_t files_;
  int64_t file_ = 0;
  int64_t at_ = 0;
};

}  // namespace

DiskRead MeasureReading(const std::vector<std::filesystem::path>& paths,
                        double seconds) {
  DiskRead result;
  std::array<Request, DirectReader::kInFlight> requests;
  DirectReader reader(paths);
  result.direct = reader.direct();
  if (!result.direct) {
    result.note = "the file system refuses direct reads: the page cache counts";
  }
  Pieces pieces(reader, std::ssize(paths));
  const double start = MonotonicSeconds();
  const auto begin = [&](Request* request) {
    const DirectPart part = pieces.Next(request->memory.get());
    request->bytes = part.bytes;
    if (part.bytes > 0) reader.Start({part}, Urgency::kNow, &request->read);
  };
  for (Request& request : requests) begin(&request);
  for (size_t next = 0; requests[next].bytes > 0;
       next = (next + 1) % requests.size()) {
    Request& request = requests[next];
    reader.Wait(&request.read);
    result.bytes += request.bytes;
    request.bytes = 0;
    if (MonotonicSeconds() - start < seconds) begin(&request);
  }
  result.seconds = MonotonicSeconds() - start;
  if (result.note.empty() && result.bytes < kFewBytes) {
    result.note = "too small a file to say much";
  }
  return result;
}

}  // namespace mobe
