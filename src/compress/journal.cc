#include "compress/journal.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/sealed_json.h"
#include "compress/recipe.h"
#include "io/checkpoint_writer.h"

namespace mobe {

namespace fs = std::filesystem;

namespace {

constexpr char kJobFile[] = "job.json";
constexpr char kLockFile[] = "lock";

std::string NameOf(int64_t layer, const MatrixKind& kind, const char* ending) {
  return fmt::format("layer-{:05}-{}.{}", layer, kind.name, ending);
}

void RemoveFile(const fs::path& path) {
  std::error_code error;
  fs::remove(path, error);
  if (!error) return;
  Fail(ErrorKind::kUserInput, "{}: cannot be removed: {}", path.string(),
       error.message());
}

Json ReadJson(const fs::path& path) {
  return ParseSealed(ReadSmallFile(path), path.string());
}

void WriteJson(const fs::path& path, const Json& json) {
  WriteFileAtomically(path, SealText(json.dump(1)));
}

// Size, time and content hash of each file that compress reads. A file that
// has the same size and time as in `known` (an earlier result) is not read.
Json FingerprintInputs(const fs::path& folder, const Json& known,
                       const Journal::ReadsFn& reads) {
  std::vector<fs::path> files;
  for (const std::string& name : ListFolder(folder)) {
    const bool read = name.ends_with(".safetensors") ||
                      name == "model.safetensors.index.json" ||
                      name == "config.json";
    if (read && IsFile(folder / name)) files.push_back(folder / name);
  }
  Json result = Json::object();
  for (const fs::path& path : files) {
    const std::string name = TextOfName(path.filename().string());
    // Asked just before: it may throw, to stop.
    const bool weights = name.ends_with(".safetensors");
    if (weights && reads && !reads(name)) continue;
    const FileStamp stamp = StampOf(path);
    Json now = {{"bytes", stamp.bytes}, {"time", stamp.time}};
    const Json before = known.value(name, Json::object());
    const bool unchanged = before.contains("hash") &&
                           before.value("bytes", Json()) == now["bytes"] &&
                           before.value("time", Json()) == now["time"];
    now["hash"] = unchanged ? before["hash"] : Json(HashFile(path));
    result[name] = std::move(now);
  }
  return result;
}

// How the folder of another job is named.
struct Holder {
  const char* what;
  const char* advice;
};
constexpr Holder kBegun = {
    "a job begun", "repeat that command, or name another output folder"};
constexpr Holder kFinished = {"a model made", "name another output folder"};

// The first place within two lists or objects where they differ.
JsonDifference Innermost(JsonDifference d) {
  if (d.before.is_object() && d.after.is_object()) {
    return Innermost(Differences(d.before, d.after).front());
  }
  const bool lists = d.before.is_array() && d.after.is_array() &&
                     d.before.size() == d.after.size();
  if (!lists) return d;
  for (size_t i = 0; i < d.before.size(); ++i) {
    if (d.before[i] == d.after[i]) continue;
    return Innermost({d.key, d.before[i], d.after[i]});
  }
  return d;
}

// Fails when the job in `out` had another value under any key of `now`.
void CheckSame(const fs::path& out, const Holder& holder, const char* what,
               const Json& begun, const Json& now) {
  const auto differences = Differences(begun, now);
  if (differences.empty()) return;
  const JsonDifference d = Innermost(differences.front());
  Fail(ErrorKind::kUserInput,
       "{}: holds {} with another {} ({}: {}, now {}); {}", out.string(),
       holder.what, what, d.key, d.before.dump(), d.after.dump(),
       holder.advice);
}

void CheckSameOptions(const fs::path& out, const Holder& holder,
                      const Json& begun, const Json& now) {
  // Of another command everything differs.
  const Json before = begun.value("command", Json());
  const Json after = now.value("command", Json());
  if (before != after) {
    Fail(ErrorKind::kUserInput,
         "{}: holds {} by another command ({}, now {}); {}", out.string(),
         holder.what, before.dump(), after.dump(), holder.advice);
  }
  const Json part = begun.value("share", Json());
  const Json part_now = now.value("share", Json());
  if (part != part_now) {
    const auto text = [](const Json& share) {
      return share.is_null() ? "no part" : "part " + share.get<std::string>();
    };
    Fail(ErrorKind::kUserInput,
         "{}: holds {} with another --shard ({}, now {}); {}", out.string(),
         holder.what, text(part), text(part_now), holder.advice);
  }
  CheckSame(out, holder, "option", begun, now);
}

Json Hashes(const Json& inputs) {
  Json hashes = Json::object();
  for (const auto& [name, file] : inputs.items()) {
    hashes[name] = file.at("hash");
  }
  return hashes;
}

}  // namespace

FolderLock::FolderLock(const fs::path& out) {
  const fs::path path = out / Journal::kFolder / kLockFile;
  LockedFile locked;
  for (int tries = 0; tries < 10; ++tries) {
    MakeFolder(out / Journal::kFolder);
    locked = OpenLocked(path);
    if (locked.error != ENOENT) break;  // who has just finished removed it
  }
  if (locked.error == 0) {
    fd_ = locked.fd;
    return;
  }
  if (locked.fd >= 0) {
    ::close(locked.fd);
    Fail(ErrorKind::kUserInput,
         "{}: cannot be locked ({}): a shared file system must support locks "
         "(Lustre: mount with -o flock); or use --shard i/N with folders of "
         "each machine",
         path.string(), std::strerror(locked.error));
  }
  if (locked.error != EWOULDBLOCK) {
    Fail(ErrorKind::kUserInput, "{}: cannot create: {}", path.string(),
         std::strerror(locked.error));
  }
  Fail(ErrorKind::kUserInput,
       "{}: another mobe is at work in this folder (its lock is held)",
       out.string());
}

FolderLock::~FolderLock() {
  if (fd_ >= 0) ::close(fd_);
}

Journal::Journal(const fs::path& out, const fs::path& input,
                 const Json& options, const ReadsFn& reads, SayFn say)
    : out_(out), folder_(out / kFolder), say_(std::move(say)) {
  const auto check_folder = [&] {
    const bool ours = IsFinished(out) || Exists(PathOf(kJobFile));
    if (!ours) CheckOutputFolder(out, {kFolder});
  };
  check_folder();
  // A finished folder, which may be read-only, needs no lock.
  if (!IsFinished(out) || Exists(folder_)) {
    lock_.emplace(out);
    check_folder();  // again: whoever held the lock may have finished the job
  }
  if (IsFinished(out)) {
    CheckFinished(input, options, reads);
  } else {
    Begin(input, options, reads);
  }
}

void Journal::CheckFinished(const fs::path& input, const Json& options,
                            const ReadsFn& reads) {
  const std::optional<Recipe> recipe = ReadRecipe(out_);
  CheckSameOptions(out_, kFinished, recipe->options, options);
  Json source = Json::object();
  for (const auto& [name, sum] : recipe->source_files) {
    source[name] = sum.sha256;
  }
  CheckSame(out_, kFinished, "input", source,
            Hashes(FingerprintInputs(input, Json::object(), reads)));
  const std::vector<std::string> faults = CheckFiles(*recipe, out_);
  if (!faults.empty()) {
    Fail(ErrorKind::kCorruptFile,
         "{}; the model was finished before: restore the file, or remove {} "
         "and run the same command again",
         faults.front(), out_.string());
  }
  if (lock_) Remove();  // killed while it did
  finished_ = true;
}

void Journal::Begin(const fs::path& input, const Json& options,
                    const ReadsFn& reads) {
  const bool begun = Exists(PathOf(kJobFile));
  const Json job = begun ? ReadJob(out_) : Json();
  const Json known = begun ? job.at("inputs") : Json::object();
  if (begun) CheckSameOptions(out_, kBegun, job.at("options"), options);
  const Json inputs = FingerprintInputs(input, known, reads);
  if (begun) CheckSame(out_, kBegun, "input", Hashes(known), Hashes(inputs));
  Clean(begun);
  if (!begun) {
    WriteJson(PathOf(kJobFile), {{"options", options}, {"inputs", inputs}});
  }
}

// What killed processes left: half-written files, factors that no rank brought
// home, and without a job, all that one had but the moments, which come first.
void Journal::Clean(bool begun) const {
  std::vector<fs::path> stale;
  for (const fs::path& folder : {out_, folder_}) {
    for (const std::string& name : ListFolder(folder)) {
      if (!IsFile(folder / name)) continue;  // none of ours, or gone meanwhile
      const bool moments = name.starts_with("moments.");
      const bool left =
          name.ends_with(kTemporaryEnding) ||
          (folder == folder_ && name.find(".rank") != std::string::npos) ||
          (folder == folder_ && !begun && !moments && name != kLockFile);
      if (left) stale.push_back(folder / name);
    }
  }
  for (const fs::path& path : stale) RemoveFile(path);
}

Json Journal::ReadOrNull(const fs::path& path) const {
  if (!Exists(path)) return {};
  try {
    return ReadJson(path);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kCorruptFile) throw;
    Say(fmt::format("{}; it is made again", e.what()));
    RemoveFile(path);
    return {};
  }
}

Json Journal::Record(int64_t layer, const MatrixKind& kind) const {
  return ReadOrNull(PathOf(NameOf(layer, kind, "json")));
}

fs::path Journal::FactorsPath(int64_t layer, const MatrixKind& kind) const {
  return FactorsIn(out_, layer, kind);
}

fs::path Journal::FactorsOfRank(const fs::path& out, int64_t layer,
                                const MatrixKind& kind, int rank) {
  const std::string ending = fmt::format("rank{}.safetensors", rank);
  return out / kFolder / NameOf(layer, kind, ending.c_str());
}

void Journal::Adopt(int64_t layer, const MatrixKind& kind, int rank,
                    const Json& record) const {
  const fs::path from = FactorsOfRank(out_, layer, kind, rank);
  std::error_code error;
  const fs::path to = FactorsPath(layer, kind);
  fs::rename(from, to, error);
  if (error) {
    Fail(ErrorKind::kMissing,
         "{}: written by rank {}, but not seen by rank 0 ({}); with several "
         "ranks OUT must be a folder that all machines share",
         from.string(), rank, error.message());
  }
  if (HashFile(to) == record.value("sha256", "")) return;
  RemoveFile(to);
  Fail(ErrorKind::kCorruptFile,
       "{}: rank 0 read other bytes than rank {} wrote; run the same command "
       "to continue",
       from.string(), rank);
}

void Journal::Finish(int64_t layer, const MatrixKind& kind,
                     const Json& record) {
  WriteJson(PathOf(NameOf(layer, kind, "json")), record);
}

void Journal::DropFactors(int64_t layer, const MatrixKind& kind) const {
  RemoveFile(FactorsPath(layer, kind));
}

void Journal::Forget(int64_t layer, const MatrixKind& kind,
                     const std::string& why) {
  Say(fmt::format("{}; layer {} {} is fitted again", why, layer, kind.name));
  // The record first: without it the factors mean nothing.
  RemoveFile(PathOf(NameOf(layer, kind, "json")));
  DropFactors(layer, kind);
}

Json Journal::Note(const std::string& name) const {
  const Json note = ReadOrNull(PathOf(name + ".json"));
  return note.is_null() ? note : note.value("value", Json());
}

bool Journal::HasNote(const std::string& name) const {
  return Exists(PathOf(name + ".json"));
}

void Journal::SetNote(const std::string& name, const Json& value) {
  WriteNote(out_, name, value);
}

void Journal::DropNote(const std::string& name) const {
  RemoveFile(PathOf(name + ".json"));
}

void Journal::CheckInputs(const fs::path& other_out,
                          const Json& other_job) const {
  const Json ours = Hashes(ReadJob(out_).at("inputs"));
  Json here = Json::object();
  const Json theirs = Hashes(other_job.at("inputs"));
  for (const auto& [name, hash] : theirs.items()) {
    here[name] = ours.value(name, Json());
  }
  CheckSame(other_out, kBegun, "input", theirs, here);
}

void Journal::Remove() {
  // First what makes it a job: were it killed after some records but before
  // this, the next run would fit those matrices again.
  RemoveFile(PathOf(kJobFile));
  std::error_code error;
  fs::remove_all(folder_, error);
  // Not empty: someone waits there, will see that all is done, and remove it.
  if (!error || error == std::errc::directory_not_empty) return;
  Fail(ErrorKind::kUserInput,
       "{}: cannot be removed: {}; the model beside it is whole",
       folder_.string(), error.message());
}

Json ReadJob(const fs::path& out) {
  const fs::path path = out / Journal::kFolder / kJobFile;
  Json job;
  try {
    job = ReadJson(path);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kCorruptFile) throw;
    Fail(ErrorKind::kCorruptFile,
         "{} (or it is of an older mobe); the job can't be continued: remove "
         "{} and begin it anew",
         e.what(), out.string());
  }
  const Json inputs = job.value("inputs", Json());
  const bool ours =
      job.value("options", Json()).is_object() && inputs.is_object() &&
      std::ranges::all_of(inputs, [](const Json& file) {
        return file.is_object() && file.value("hash", Json()).is_string();
      });
  if (!ours) {
    Fail(ErrorKind::kCorruptFile, "{}: not a journal of mobe", path.string());
  }
  return job;
}

Json ReadNote(const fs::path& out, const std::string& name) {
  const fs::path path = out / Journal::kFolder / (name + ".json");
  return Exists(path) ? ReadJson(path).value("value", Json()) : Json();
}

Json ReadRecord(const fs::path& out, int64_t layer, const MatrixKind& kind) {
  const fs::path path = out / Journal::kFolder / NameOf(layer, kind, "json");
  return Exists(path) ? ReadJson(path) : Json();
}

bool HasRecord(const fs::path& out, int64_t layer, const MatrixKind& kind) {
  try {
    return !ReadRecord(out, layer, kind).is_null();
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kCorruptFile) throw;
    return false;
  }
}

fs::path FactorsIn(const fs::path& out, int64_t layer, const MatrixKind& kind) {
  return out / Journal::kFolder / NameOf(layer, kind, "safetensors");
}

bool IsFinished(const fs::path& out) {
  return Exists(out / "config.json") && Exists(out / kRecipeFile) &&
         !Exists(out / Journal::kFolder / kJobFile);
}

void WriteNote(const fs::path& out, const std::string& name,
               const Json& value) {
  WriteJson(out / Journal::kFolder / (name + ".json"), {{"value", value}});
}

std::optional<Json> OptionsOfJob(const fs::path& out) {
  if (Exists(out / Journal::kFolder / kJobFile)) {
    return ReadJob(out).at("options");
  }
  const std::optional<Recipe> recipe = ReadRecipe(out);
  if (!recipe) return std::nullopt;
  return recipe->options;
}

void CheckOptionsOfJob(const fs::path& out, const Json& options) {
  const std::optional<Json> job = OptionsOfJob(out);
  if (!job) return;
  CheckSameOptions(out, IsFinished(out) ? kFinished : kBegun, *job, options);
}

}  // namespace mobe
