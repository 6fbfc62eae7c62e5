// What a run of `mobe eval` has found, an item at a time: in a file that a
// later run of the same goes on from.
//
// Lines of JSON. The first is an object of the key "mobe_eval", with what the
// run is of. Each other one is of an item, and durable once Flush has returned:
//   {"model": "base", "task": "arc_easy", "item": 3,
//    "sums": {"acc": [1, 1], ...}, ..., "check": "d2a8..."}
// The check is of the line without it: the beginning of its SHA-256. A line
// that a killed run left unfinished is dropped.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>

#include "base/json.h"
#include "base/ordered_json.h"
#include "eval/task.h"

namespace mobe {

class EvalLog {
 public:
  // An empty name keeps it in memory alone. Fails with kUserInput when the file
  // is of something else than `run` (an object), naming the first difference,
  // or no log, or another process writes it; with kCorruptFile for a line that
  // can't be read.
  EvalLog(std::filesystem::path file, const Json& run);
  EvalLog(const EvalLog&) = delete;
  EvalLog& operator=(const EvalLog&) = delete;
  ~EvalLog();

  // Of the item of a task that the model ("model" or "base") has done, or null.
  const Score* Find(const std::string& model, const EvalTask& task,
                    int64_t item) const;
  // Adds an item; `seen` is an object of what else is to be told of it, or
  // null. It is in the file after Flush, together with those before.
  void Add(const std::string& model, const EvalTask& task, int64_t item,
           const Score& score, const OrderedJson& seen);
  // Makes what was added durable. Fails with kDiskFull, or kUserInput.
  void Flush();

  bool is_kept() const { return fd_ >= 0; }
  int64_t found() const { return found_; }  // in the file at the start

 private:
  using Items = std::map<int64_t, Score>;

  void Read(const Json& run);
  void ReadItem(std::string_view line, const std::string& where);
  void Write(std::string_view text);

  std::filesystem::path file_;
  int fd_ = -1;
  std::string pending_;  // lines for Flush
  int64_t found_ = 0;
  std::map<std::pair<std::string, std::string>, Items> items_;  // model, task
};

}  // namespace mobe
