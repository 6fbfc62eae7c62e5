#include "compress/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "io/checkpoint_writer.h"

namespace mobe {

namespace fs = std::filesystem;

namespace {

std::string NameOf(int64_t layer, const MatrixKind& kind, const char* ending) {
  return fmt::format("layer-{:05}-{}.{}", layer, kind.name, ending);
}

Json ReadJson(const fs::path& path) {
  return ParseJson(ReadSmallFile(path), path.string());
}

void WriteJson(const fs::path& path, const Json& json) {
  WriteFileAtomically(path, json.dump(1) + "\n");
}

// Size, time and content hash of each file that compress reads. A file that
// has the same size and time as in `known` (an earlier result) is not read.
Json FingerprintInputs(const fs::path& folder, const Json& known,
                       const Journal::ReadsFn& reads) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool read = name.ends_with(".safetensors") ||
                      name == "model.safetensors.index.json" ||
                      name == "config.json";
    if (read && entry.is_regular_file()) files.push_back(entry.path());
  }
  Json result = Json::object();
  for (const fs::path& path : files) {
    const std::string name = TextOfName(path.filename().string());
    // Asked just before: it may throw, to stop.
    const bool weights = name.ends_with(".safetensors");
    if (weights && reads && !reads(name)) continue;
    Json now = {{"bytes", fs::file_size(path)},
                {"time", fs::last_write_time(path).time_since_epoch().count()}};
    const Json before = known.value(name, Json::object());
    const bool unchanged = before.contains("hash") &&
                           before.value("bytes", Json()) == now["bytes"] &&
                           before.value("time", Json()) == now["time"];
    now["hash"] = unchanged ? before["hash"] : Json(HashFile(path));
    result[name] = std::move(now);
  }
  return result;
}

// Fails when the job begun in `out` had another value under any key of `now`.
void CheckSame(const fs::path& out, const char* what, const Json& begun,
               const Json& now) {
  const auto differences = Differences(begun, now);
  if (differences.empty()) return;
  const JsonDifference& d = differences.front();
  Fail(ErrorKind::kUserInput,
       "{}: holds a job begun with another {} ({}: {}, now {}); repeat that "
       "command, or name another output folder",
       out.string(), what, d.key, d.before.dump(), d.after.dump());
}

Json Hashes(const Json& inputs) {
  Json hashes = Json::object();
  for (const auto& [name, file] : inputs.items()) {
    hashes[name] = file.at("hash");
  }
  return hashes;
}

}  // namespace

Journal::Journal(const fs::path& out, const fs::path& input,
                 const Json& options, const ReadsFn& reads)
    : folder_(out / kFolder) {
  const fs::path job_path = PathOf("job.json");
  const auto check_folder = [&] {
    if (!fs::exists(job_path)) CheckOutputFolder(out, {kFolder});
  };
  check_folder();
  MakeFolder(folder_);
  lock_ = ::open(PathOf("lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_ < 0) {
    Fail(ErrorKind::kUserInput, "{}: cannot create: {}",
         PathOf("lock").string(), std::strerror(errno));
  }
  if (::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    ::close(lock_);
    if (error != EWOULDBLOCK) {
      Fail(ErrorKind::kUserInput,
           "{}: cannot be locked ({}): a shared file system must support locks "
           "(Lustre: mount with -o flock); or use --shard i/N with folders of "
           "each machine",
           PathOf("lock").string(), std::strerror(error));
    }
    Fail(ErrorKind::kUserInput,
         "{}: another mobe is at work in this folder (its lock is held)",
         out.string());
  }
  try {
    check_folder();  // again: whoever held the lock may have finished the job
    const bool resumed = fs::exists(job_path);
    const Json job = resumed ? ReadJson(job_path) : Json();
    const Json known = resumed ? job.at("inputs") : Json::object();
    const Json inputs = FingerprintInputs(input, known, reads);
    if (resumed) {
      CheckSame(out, "option", job.at("options"), options);
      CheckSame(out, "input", Hashes(known), Hashes(inputs));
    } else {
      WriteJson(job_path, {{"options", options}, {"inputs", inputs}});
    }
  } catch (const Json::exception& e) {
    ::close(lock_);
    Fail(ErrorKind::kCorruptFile, "{}: not a journal of mobe: {}",
         job_path.string(), e.what());
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

Journal::~Journal() {
  if (lock_ >= 0) ::close(lock_);
}

Json Journal::Record(int64_t layer, const MatrixKind& kind) const {
  return ReadRecord(folder_.parent_path(), layer, kind);
}

fs::path Journal::FactorsPath(int64_t layer, const MatrixKind& kind) const {
  return FactorsIn(folder_.parent_path(), layer, kind);
}

fs::path Journal::FactorsOfRank(const fs::path& out, int64_t layer,
                                const MatrixKind& kind, int rank) {
  const std::string ending = fmt::format("rank{}.safetensors", rank);
  return out / kFolder / NameOf(layer, kind, ending.c_str());
}

void Journal::Adopt(int64_t layer, const MatrixKind& kind, int rank) const {
  const fs::path from = FactorsOfRank(folder_.parent_path(), layer, kind, rank);
  std::error_code error;
  fs::rename(from, FactorsPath(layer, kind), error);
  if (!error) return;
  Fail(ErrorKind::kMissing,
       "{}: written by rank {}, but not seen by rank 0 ({}); with several "
       "ranks OUT must be a folder that all machines share",
       from.string(), rank, error.message());
}

void Journal::Finish(int64_t layer, const MatrixKind& kind,
                     const Json& record) {
  WriteJson(PathOf(NameOf(layer, kind, "json")), record);
}

void Journal::DropFactors(int64_t layer, const MatrixKind& kind) const {
  std::error_code ignored;
  fs::remove(FactorsPath(layer, kind), ignored);
}

Json Journal::Note(const std::string& name) const {
  return ReadNote(folder_.parent_path(), name);
}

void Journal::SetNote(const std::string& name, const Json& value) {
  WriteJson(PathOf(name + ".json"), value);
}

void Journal::CheckInputs(const fs::path& other_out,
                          const Json& other_job) const {
  const Json ours = Hashes(ReadJson(PathOf("job.json")).at("inputs"));
  Json here = Json::object();
  const Json theirs = Hashes(other_job.at("inputs"));
  for (const auto& [name, hash] : theirs.items()) {
    here[name] = ours.value(name, Json());
  }
  CheckSame(other_out, "input", theirs, here);
}

void Journal::Remove() {
  std::error_code ignored;
  // First what makes it a job: were it killed after some records but before
  // this, the next run would fit those matrices again.
  fs::remove(PathOf("job.json"), ignored);
  fs::remove_all(folder_, ignored);
}

Json ReadJob(const fs::path& out) {
  Json job = ReadJson(out / Journal::kFolder / "job.json");
  if (!job.is_object() || !job.contains("options") || !job.contains("inputs")) {
    Fail(ErrorKind::kCorruptFile, "{}: not a journal of mobe",
         (out / Journal::kFolder / "job.json").string());
  }
  return job;
}

Json ReadNote(const fs::path& out, const std::string& name) {
  const fs::path path = out / Journal::kFolder / (name + ".json");
  return fs::exists(path) ? ReadJson(path) : Json();
}

Json ReadRecord(const fs::path& out, int64_t layer, const MatrixKind& kind) {
  const fs::path path = out / Journal::kFolder / NameOf(layer, kind, "json");
  return fs::exists(path) ? ReadJson(path) : Json();
}

fs::path FactorsIn(const fs::path& out, int64_t layer, const MatrixKind& kind) {
  return out / Journal::kFolder / NameOf(layer, kind, "safetensors");
}

}  // namespace mobe
