// What makes a compress job resumable: a hidden folder in its output.
//
//   OUT/.mobe/job.json              inputs (with hashes) and options
//   OUT/.mobe/layer-00003-gate.safetensors   finished factors, as stored
//   OUT/.mobe/layer-00003-gate.json          their errors; written second
//   OUT/.mobe/lock                  held while a process works here
//
// Invariants: every file appears whole (AtomicFile); a record's factors were
// durable before it appeared; all of it belongs to the job in job.json, since
// Journal refuses a folder of any other job. The factors of a matrix may be
// dropped once every shard that holds them is written; its record stays.
#pragma once

#include <filesystem>
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
  // no journal. Hashes all weights, unless a continued job finds a file's size
  // and time unchanged.
  Journal(const std::filesystem::path& out, const std::filesystem::path& input,
          const Json& options);
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

  // A note kept with the job, such as the passes that a time budget came to.
  Json Note(const std::string& name) const;
  void SetNote(const std::string& name, const Json& value);

  // Removes the journal: the job is done.
  void Remove();

 private:
  std::filesystem::path PathOf(const std::string& name) const {
    return folder_ / name;
  }

  std::filesystem::path folder_;
  int lock_ = -1;
};

}  // namespace mobe
