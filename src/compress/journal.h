// What makes a compress job resumable: a hidden folder in its output.
//
//   OUT/.mobe/job.json              inputs (with hashes) and options
//   OUT/.mobe/layer-00003-gate.safetensors   finished factors, as stored
//   OUT/.mobe/layer-00003-gate.json          their errors; written second
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
// durable before it appeared; all of it belongs to the job in job.json, since
// Journal refuses a folder of any other job. The factors of a matrix may be
// dropped once every shard that holds them is written; its record stays.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "base/json.h"
#include "mobe/format.h"

namespace mobe {

class Journal {
 public:
  static constexpr const char* kFolder = ".mobe";

  // Begins a job in `out` that reads the model in `input` with these options
  // (an object), or continues the one there. Fails with kUserInput when that
  // had other options or other contents of the inputs, naming the first that
  // differs; when another process is at work; when `out` is not empty and holds
  // no journal. Hashes all weights that `reads` (a file's name) says are read
  // (null: all; it may throw, to stop), unless a continued job finds a file's
  // size and time unchanged.
  using ReadsFn = std::function<bool(const std::string& file)>;
  Journal(const std::filesystem::path& out, const std::filesystem::path& input,
          const Json& options, const ReadsFn& reads = nullptr);
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;
  ~Journal();

  // The record of a finished matrix, or null.
  Json Record(int64_t layer, const MatrixKind& kind) const;
  // Where the factors are to be written (through SafetensorsWriter), before
  // Finish records the matrix as done.
  std::filesystem::path FactorsPath(int64_t layer,
                                    const MatrixKind& kind) const;
  void Finish(int64_t layer, const MatrixKind& kind, const Json& record);
  void DropFactors(int64_t layer, const MatrixKind& kind) const;

  // Where another rank writes factors, in a folder that it does not lock; and
  // what rank 0 does when they are durable, before Finish.
  static std::filesystem::path FactorsOfRank(const std::filesystem::path& out,
                                             int64_t layer,
                                             const MatrixKind& kind, int rank);
  void Adopt(int64_t layer, const MatrixKind& kind, int rank) const;

  // A note kept with the job, such as the passes that a time budget came to.
  Json Note(const std::string& name) const;
  void SetNote(const std::string& name, const Json& value);

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

  std::filesystem::path folder_;
  int lock_ = -1;
};

// A journal read without its lock, that of a part which nobody works on any
// more: job.json ("options", "inputs"), a note, a record, a path of factors.
// Fails with kMissing when the folder has no journal.
Json ReadJob(const std::filesystem::path& out);
Json ReadNote(const std::filesystem::path& out, const std::string& name);
Json ReadRecord(const std::filesystem::path& out, int64_t layer,
                const MatrixKind& kind);
std::filesystem::path FactorsIn(const std::filesystem::path& out, int64_t layer,
                                const MatrixKind& kind);

}  // namespace mobe
