#include "eval/eval_log.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

namespace mobe {
namespace {

constexpr const char* kLogKey = "mobe_eval";

[[noreturn]] void FailLog(const std::filesystem::path& file, const char* what) {
  const int error = errno;
  const bool full = error == ENOSPC || error == EDQUOT || error == EFBIG;
  Fail(full ? ErrorKind::kDiskFull : ErrorKind::kUserInput,
       "{}: {}: {}; what is in it stays, and the same command goes on from it",
       file.string(), what, std::strerror(error));
}

constexpr std::string_view kCheckKey = ",\"check\":\"";

// `line` is an object that is not empty.
std::string WithCheck(const std::string& line) {
  const std::string hash = HashBytes(std::as_bytes(std::span(line)));
  return fmt::format("{}{}{}\"}}", line.substr(0, line.size() - 1), kCheckKey,
                     hash.substr(0, 16));
}

bool HasItsCheck(std::string_view line) {
  const size_t at = line.rfind(kCheckKey);
  return at != std::string_view::npos &&
         WithCheck(std::string(line.substr(0, at)) + "}") == line;
}

}  // namespace

EvalLog::EvalLog(std::filesystem::path file, const Json& run)
    : file_(std::move(file)) {
  if (file_.empty()) return;
  if (Exists(file_) && !IsFile(file_)) {
    Fail(ErrorKind::kUserInput, "{}: not a regular file; name another",
         file_.string());
  }
  fd_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) FailLog(file_, "cannot open the log");
  try {
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      Fail(ErrorKind::kUserInput, "{}: another mobe is writing this log",
           file_.string());
    }
    Read(run);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

EvalLog::~EvalLog() {
  if (fd_ >= 0) ::close(fd_);
}

void EvalLog::Read(const Json& run) {
  const std::string text = ReadInput(file_, UINT64_MAX);
  const std::string first = Json({{kLogKey, run}}).dump() + "\n";
  const size_t whole = text.rfind('\n') + 1;  // 0: no line is
  if (whole == 0) {
    if (!first.starts_with(text)) {
      Fail(ErrorKind::kUserInput,
           "{}: no log of mobe eval; name another file, it is left as it is",
           file_.string());
    }
    if (::ftruncate(fd_, 0) != 0) FailLog(file_, "cannot empty the log");
    Write(first);
    return;
  }
  size_t number = 0;
  for (size_t begin = 0; begin < whole;) {
    const size_t end = text.find('\n', begin);
    const std::string_view line(text.data() + begin, end - begin);
    const std::string where =
        fmt::format("{}: line {}", file_.string(), ++number);
    begin = end + 1;
    if (number > 1) {
      ReadItem(line, where);
      continue;
    }
    Json begun;
    if (Json::accept(line)) begun = ParseJson(line, where);
    if (!begun.is_object() || !begun.contains(kLogKey)) {
      Fail(ErrorKind::kUserInput,
           "{}: no log of mobe eval; name another file, it is left as it is",
           file_.string());
    }
    for (const JsonDifference& d : Differences(begun[kLogKey], run)) {
      Fail(ErrorKind::kUserInput,
           "{}: the log of another run ({}: {}, now {}); repeat that command, "
           "or name another file",
           file_.string(), d.key, Excerpt(d.before), Excerpt(d.after));
    }
  }
  if (whole < text.size() && ::ftruncate(fd_, static_cast<off_t>(whole)) != 0) {
    FailLog(file_, "cannot drop an unfinished line of the log");
  }
}

void EvalLog::ReadItem(std::string_view line, const std::string& where) {
  if (!HasItsCheck(line)) {
    Fail(ErrorKind::kCorruptFile,
         "{}: damaged; remove the line, and its item is run again", where);
  }
  try {
    const OrderedJson item = ParseOrderedJson(line, where);
    Score score;
    for (const OrderedJson& sums : item.at("sums")) {
      score.push_back(sums.get<Sums>());
    }
    items_[{item.at("model").get<std::string>(),
            item.at("task").get<std::string>()}]
          [item.at("item").get<int64_t>()] = std::move(score);
    ++found_;
  } catch (const OrderedJson::exception& e) {
    Fail(ErrorKind::kCorruptFile, "{}: no item of a log ({}); remove the line",
         where, e.what());
  }
}

const Score* EvalLog::Find(const std::string& model, const EvalTask& task,
                           int64_t item) const {
  const auto of_task = items_.find({model, std::string(task.name)});
  if (of_task == items_.end()) return nullptr;
  const auto found = of_task->second.find(item);
  return found == of_task->second.end() ? nullptr : &found->second;
}

void EvalLog::Add(const std::string& model, const EvalTask& task, int64_t item,
                  const Score& score, const OrderedJson& seen) {
  items_[{model, std::string(task.name)}][item] = score;
  if (fd_ < 0) return;
  OrderedJson line = {{"model", model}, {"task", task.name}, {"item", item}};
  for (size_t i = 0; i < task.metrics.size(); ++i) {
    line["sums"][std::string(task.metrics[i].name)] = score[i];
  }
  if (seen.is_object()) line.update(seen);
  // A model may write what is no UTF-8.
  pending_ += WithCheck(line.dump(-1, ' ', false,
                                  OrderedJson::error_handler_t::replace)) +
              "\n";
}

void EvalLog::Write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd_, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      FailLog(file_, "cannot write the log");
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
}

void EvalLog::Flush() {
  Write(std::exchange(pending_, {}));
  if (fd_ >= 0 && ::fdatasync(fd_) != 0) FailLog(file_, "cannot sync the log");
}

}  // namespace mobe
