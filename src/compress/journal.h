// What makes a job that writes a folder resumable: a hidden folder in its
// output. compress, its other methods, merge and reconstruct all have it.
//
//   OUT/.mobe/job.json              inputs (with hashes) and options
//   OUT/.mobe/layer-00003-gate.safetensors   finished factors, as stored
//   OUT/.mobe/layer-00003-gate.json          their errors and SHA-256; second
//   OUT/.mobe/model.safetensors.json         a written shard's SHA-256, and
//                                            those of the factors in it
//   OUT/.mobe/lock                  held while a process works here
//
// With several ranks (crew.h) the folder is shared and rank 0 alone holds the
// lock and writes job, notes, records and shards. Another rank writes only
// factors, under names of its own (FactorsOfRank), and tells rank 0 when they
// are durable, which then gives them their name. So no file has two writers,
// rank 0 never looks for what is not there yet (NFS would remember the absence
// for a minute), and a rank that was taken for dead can't disturb the one that
// has its job.
//
// A part (CompressOptions::share) is a folder that holds only this.
//
// Invariants: every file appears whole (AtomicFile); a record's factors were
// durable before it appeared, a shard before its note; all of it belongs to the
// job in job.json, since Journal refuses a folder of any other job. The factors
// of a matrix may be dropped once every shard that holds them is written; its
// record stays. Nothing is gone on from without its checksum: the JSON files
// are sealed (base/sealed_json.h), factors, shards and moments are hashed.
// What is damaged is made again, but for job.json, without which nobody knows
// what the rest belongs to.
//
// A folder with recipe.json and config.json, and without job.json, is finished.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "base/json.h"
#include "io/hub.h"
#include "mobe/format.h"

namespace mobe {

// Held while a process works in an output folder, which it makes if need be.
// Fails with kUserInput when another process holds it.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& out);
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock();

 private:
  int fd_ = -1;
};

// Told of what is damaged and will be made again, a line each.
using SayFn = std::function<void(const std::string& line)>;

class Journal {
 public:
  static constexpr const char* kFolder = kJobFolder;

  // Begins a job in `out` that reads the model in `input` with these options
  // (an object), or continues the one there. Fails with kUserInput when that
  // had other options or other contents of the inputs, naming the first that
  // differs; when another process is at work; when `out` is not empty and holds
  // no journal. Hashes all weights that `reads` (a file's name) says are read
  // (null: all; it may throw, to stop), unless a continued job finds a file's
  // size and time unchanged. Removes what a killed process left half-written.
  using ReadsFn = std::function<bool(const std::string& file)>;
  Journal(const std::filesystem::path& out, const std::filesystem::path& input,
          const Json& options, const ReadsFn& reads = nullptr,
          SayFn say = nullptr);

  // The same job has been finished here: there is nothing to do, and no journal
  // any more. Its files are as recipe.json says; were they not, the constructor
  // had failed with kCorruptFile.
  bool finished() const { return finished_; }

  // The record of a finished matrix, or null.
  Json Record(int64_t layer, const MatrixKind& kind) const;
  // Where the factors are to be written (through SafetensorsWriter), before
  // Finish records the matrix as done.
  std::filesystem::path FactorsPath(int64_t layer,
                                    const MatrixKind& kind) const;
  // A record holds the "sha256" of its factors, if there are some.
  void Finish(int64_t layer, const MatrixKind& kind, const Json& record);
  void DropFactors(int64_t layer, const MatrixKind& kind) const;
  // Drops the record, too: the matrix is to be fitted again, since `why`.
  void Forget(int64_t layer, const MatrixKind& kind, const std::string& why);

  // Where another rank writes factors, in a folder that it does not lock; and
  // what rank 0 does when they are durable, before Finish: fails with
  // kCorruptFile when they are not those of the record.
  static std::filesystem::path FactorsOfRank(const std::filesystem::path& out,
                                             int64_t layer,
                                             const MatrixKind& kind, int rank);
  void Adopt(int64_t layer, const MatrixKind& kind, int rank,
             const Json& record) const;

  // A note kept with the job, such as the passes that a time budget came to;
  // null when there is none, or a damaged one.
  Json Note(const std::string& name) const;
  bool HasNote(const std::string& name) const;
  void SetNote(const std::string& name, const Json& value);
  void DropNote(const std::string& name) const;

  // That something damaged is made again.
  void Say(const std::string& line) const {
    if (say_) say_(line);
  }

  // Fails with kUserInput when an input that another job hashed, too, has other
  // contents here.
  void CheckInputs(const std::filesystem::path& other_out,
                   const Json& other_job) const;

  // Removes the journal: the job is done.
  void Remove();

 private:
  std::filesystem::path PathOf(const std::string& name) const {
    return folder_ / name;
  }
  void CheckFinished(const std::filesystem::path& input, const Json& options,
                     const ReadsFn& reads);
  void Begin(const std::filesystem::path& input, const Json& options,
             const ReadsFn& reads);
  void Clean(bool begun) const;
  Json ReadOrNull(const std::filesystem::path& path) const;

  std::filesystem::path out_;
  std::filesystem::path folder_;
  SayFn say_;
  std::optional<FolderLock> lock_;
  bool finished_ = false;
};

// A journal read without its lock, that of a part which nobody works on any
// more: job.json ("options", "inputs"), a note, a record, a path of factors.
// Fails with kMissing when the folder has no journal, with kCorruptFile when
// what is asked for is damaged.
Json ReadJob(const std::filesystem::path& out);
Json ReadNote(const std::filesystem::path& out, const std::string& name);
Json ReadRecord(const std::filesystem::path& out, int64_t layer,
                const MatrixKind& kind);
// True when there is one, and it is not damaged.
bool HasRecord(const std::filesystem::path& out, int64_t layer,
               const MatrixKind& kind);
std::filesystem::path FactorsIn(const std::filesystem::path& out, int64_t layer,
                                const MatrixKind& kind);

// For who holds a FolderLock, before there is a job.
void WriteNote(const std::filesystem::path& out, const std::string& name,
               const Json& value);

// A finished job, as above, whatever it was.
bool IsFinished(const std::filesystem::path& out);

// The options of the job in `out`, begun or finished, if there is one.
std::optional<Json> OptionsOfJob(const std::filesystem::path& out);
// Fails with kUserInput, naming the option, where that job has others.
void CheckOptionsOfJob(const std::filesystem::path& out, const Json& options);

}  // namespace mobe
