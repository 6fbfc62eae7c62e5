#include "io/side_files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <iterator>
#include <optional>
#include <span>
#include <system_error>

#include "base/error.h"
#include "base/file.h"
#include "base/lfs.h"
#include "base/progress.h"
#include "base/unicode.h"
#include "io/hub.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

enum class Fate { kNeeded, kOfCheckpoint, kLeftOut, kUnfinished };

// The first row whose pattern (of the shell) the name has; a name that no row
// has is copied.
struct Rule {
  const char* pattern;
  Fate fate;
  const char* why = "";
};
constexpr char kHidden[] = "hidden";
constexpr char kWeights[] = "weights";
constexpr char kTraining[] = "training state";
constexpr char kDownload[] = "an unfinished download";
constexpr Rule kRules[] = {
    {"tokenizer.json", Fate::kNeeded},
    {"tokenizer_config.json", Fate::kNeeded},
    {"special_tokens_map.json", Fate::kNeeded},
    {"added_tokens.json", Fate::kNeeded},
    {"vocab.json", Fate::kNeeded},
    {"vocab.txt", Fate::kNeeded},
    {"merges.txt", Fate::kNeeded},
    {"tiktoken.model", Fate::kNeeded},
    {"*.tiktoken", Fate::kNeeded},
    {"*.model", Fate::kNeeded},  // of SentencePiece
    {"chat_template.jinja", Fate::kNeeded},
    {"chat_template.json", Fate::kNeeded},
    {kTemplatesFolder, Fate::kNeeded},  // no folder, then
    {"additional_chat_templates/*.jinja", Fate::kNeeded},
    {"generation_config.json", Fate::kNeeded},

    {"config.json", Fate::kOfCheckpoint},
    {"model.safetensors", Fate::kOfCheckpoint},
    {"model-*-of-*.safetensors", Fate::kOfCheckpoint},
    {"model.safetensors.index.json", Fate::kOfCheckpoint},

    {".*", Fate::kLeftOut, kHidden},
    {"additional_chat_templates/*", Fate::kLeftOut, "not a template"},
    {"hf_quant_config.json", Fate::kLeftOut, "the copy is not quantised so"},

    {"*.aria2", Fate::kUnfinished, kDownload},
    {"*.incomplete", Fate::kUnfinished, kDownload},
    {"*.part", Fate::kUnfinished, kDownload},
    {"*.partial", Fate::kUnfinished, kDownload},
    {"*.crdownload", Fate::kUnfinished, kDownload},
    {"*.tmp", Fate::kLeftOut, "temporary"},
    {"*.mobe-tmp", Fate::kLeftOut, "temporary"},
    {"*.lock", Fate::kLeftOut, "temporary"},

    {"optimizer.*", Fate::kLeftOut, kTraining},
    {"optimizer_*", Fate::kLeftOut, kTraining},
    {"scheduler.*", Fate::kLeftOut, kTraining},
    {"rng_state*", Fate::kLeftOut, kTraining},
    {"random_states_*", Fate::kLeftOut, kTraining},
    {"trainer_state.json", Fate::kLeftOut, kTraining},
    {"training_args.*", Fate::kLeftOut, kTraining},
    {"events.out.tfevents.*", Fate::kLeftOut, kTraining},
    {"zero_to_fp32.py", Fate::kLeftOut, kTraining},
    {"latest", Fate::kLeftOut, kTraining},  // DeepSpeed's last checkpoint
    {"global_step*", Fate::kLeftOut, kTraining},
    {"checkpoint-*", Fate::kLeftOut, kTraining},
    {"runs", Fate::kLeftOut, kTraining},
    {"wandb", Fate::kLeftOut, kTraining},
    {"nohup.out", Fate::kLeftOut, kTraining},
    {"*.log", Fate::kLeftOut, kTraining},

    {"consolidated.*", Fate::kLeftOut, kWeights},
    {"*.safetensors", Fate::kLeftOut, kWeights},
    {"*.bin", Fate::kLeftOut, kWeights},
    {"*.pt", Fate::kLeftOut, kWeights},
    {"*.pth", Fate::kLeftOut, kWeights},
    {"*.ckpt", Fate::kLeftOut, kWeights},
    {"*.h5", Fate::kLeftOut, kWeights},
    {"*.msgpack", Fate::kLeftOut, kWeights},
    {"*.onnx", Fate::kLeftOut, kWeights},
    {"*.onnx_data", Fate::kLeftOut, kWeights},
    {"*.ot", Fate::kLeftOut, kWeights},
    {"*.gguf", Fate::kLeftOut, kWeights},
    {"*.npz", Fate::kLeftOut, kWeights},
    {"*.tflite", Fate::kLeftOut, kWeights},
    {"*.pdparams", Fate::kLeftOut, kWeights},
    {"*.nemo", Fate::kLeftOut, kWeights},
    {"*.index.json", Fate::kLeftOut, "an index of weights"},
};

// Of what no row knows: more than any code or text takes, less than weights do.
constexpr int64_t kMaxUnknownBytes = 64 << 20;

const Rule* RuleOf(const std::string& name) {
  const auto* rule = std::ranges::find_if(kRules, [&](const Rule& row) {
    return ::fnmatch(row.pattern, name.c_str(), FNM_PATHNAME) == 0;
  });
  return rule == std::end(kRules) ? nullptr : rule;
}

// The first bytes of a file; nothing, with errno, when it can't be read.
std::optional<std::string> ReadBeginning(const fs::path& path) {
  // A FIFO that has taken the file's place would wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return std::nullopt;
  std::string text(100, '\0');
  const ssize_t size = ::read(fd, text.data(), text.size());
  const int error = errno;
  ::close(fd);
  errno = error;
  if (size < 0) return std::nullopt;
  text.resize(static_cast<size_t>(size));
  return text;
}

// A page that says why there is no file, or a hole, where JSON should be.
bool BeginsAsJson(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  const size_t at = text.find_first_not_of(" \t\r\n");
  return at == std::string_view::npos || text[at] == '{' || text[at] == '[';
}

// Of a file that is as it should be, but can't be read now: its disk fails, or
// there are no descriptors left.
bool IsPassing(int error) { return error != EACCES && error != ELOOP; }

// What keeps a file from being copied, and what to do; empty when nothing does.
// Throws where the same file may be read the next time: what is written depends
// on the model, not on the moment.
std::string FaultOf(const fs::path& path, bool needed) {
  constexpr char kAgain[] = "get the file again ('hf download'), or remove it";
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) {
    return fmt::format("{}; {}", Absence(path), kAgain);
  }
  if (status.type() != fs::file_type::none && !fs::is_regular_file(status)) {
    return "not a regular file; remove it, or put the file in its place";
  }
  const auto beginning = ReadBeginning(path);
  if (!beginning) {
    if (IsPassing(errno)) {
      Fail(ErrorKind::kUserInput, "{}: cannot be read: {}", path.string(),
           std::strerror(errno));
    }
    return fmt::format("cannot be read: {}", std::strerror(errno));
  }
  if (IsLfsPointer(std::as_bytes(std::span(*beginning)))) {
    return kLfsPointerFault;
  }
  if (!needed) return "";
  if (beginning->empty()) return fmt::format("empty; {}", kAgain);
  if (path.extension() == ".json" && !BeginsAsJson(*beginning)) {
    return fmt::format("does not begin as JSON does; {}", kAgain);
  }
  return "";
}

class Lister {
 public:
  explicit Lister(const fs::path& folder) { files_.folder = folder; }

  SideFiles Run() {
    const std::error_code error = Each("", [&](const std::string& name) {
      std::error_code ignored;
      if (!fs::is_directory(files_.folder / name, ignored)) {
        AddFile(name);
      } else if (name == kTemplatesFolder) {
        AddTemplates();
      } else {
        const Rule* rule = RuleOf(name);
        files_.left_out.push_back(
            {name, rule != nullptr && rule->fate == Fate::kLeftOut
                       ? rule->why
                       : "a folder"});
      }
    });
    if (error) {
      Fail(ErrorKind::kMissing, "{}: cannot read the folder: {}",
           files_.folder.string(), error.message());
    }
    std::error_code ignored;
    if (!shard_.empty() &&
        fs::exists(files_.folder / "model.safetensors", ignored)) {
      files_.left_out.push_back({shard_,
                                 "not read, nor are the other shards, since "
                                 "model.safetensors is there",
                                 true});
    }
    std::ranges::sort(files_.copied, {}, &SideFile::name);
    std::ranges::sort(files_.broken, {}, &BrokenFile::name);
    std::ranges::sort(files_.left_out, {}, &LeftOutFile::name);
    return std::move(files_);
  }

 private:
  // use(name in files_.folder) for all that is in its subfolder.
  template <class Use>
  std::error_code Each(const fs::path& subfolder, const Use& use) const {
    std::error_code error;
    fs::directory_iterator entry(files_.folder / subfolder, error);
    while (!error && entry != fs::directory_iterator()) {
      use((subfolder / entry->path().filename()).string());
      entry.increment(error);
    }
    return error;
  }

  void AddTemplates() {
    const std::error_code error =
        Each(kTemplatesFolder, [&](const std::string& name) { AddFile(name); });
    if (error) {
      AddBroken(kTemplatesFolder, true, "cannot be read: " + error.message());
    }
  }

  void AddBroken(const std::string& name, bool needed,
                 const std::string& fault) {
    files_.broken.push_back(
        {name, needed,
         fmt::format("{}: {}", (files_.folder / name).string(), fault)});
  }

  void AddFile(const std::string& name) {
    const Rule* rule = RuleOf(name);
    const bool needed = rule != nullptr && rule->fate == Fate::kNeeded;
    if (rule != nullptr && rule->fate == Fate::kOfCheckpoint) {
      if (name.starts_with("model-") && (shard_.empty() || name < shard_)) {
        shard_ = name;
      }
      return;
    }
    if (rule != nullptr && !needed) {
      files_.left_out.push_back(
          {name, rule->why, rule->fate == Fate::kUnfinished});
      return;
    }
    const fs::path path = files_.folder / name;
    const std::string fault = FaultOf(path, needed);
    if (!fault.empty()) {
      AddBroken(name, needed, fault);
      return;
    }
    std::error_code error;
    const auto bytes = static_cast<int64_t>(fs::file_size(path, error));
    if (!needed && bytes > kMaxUnknownBytes) {
      files_.left_out.push_back(
          {name,
           fmt::format("of no known kind, and {}",
                       FormatBytes(static_cast<double>(bytes))),
           true});
      return;
    }
    files_.copied.push_back({name, name, bytes});
  }

  SideFiles files_;
  std::string shard_;  // the first, if there are some
};

}  // namespace

const SideFile* SideFiles::Find(std::string_view name) const {
  const auto found = std::ranges::find(copied, name, &SideFile::name);
  return found == copied.end() ? nullptr : &*found;
}

int64_t SideFiles::bytes() const {
  int64_t total = 0;
  for (const SideFile& file : copied) total += file.bytes;
  return total;
}

SideFiles ListSideFiles(const fs::path& folder) { return Lister(folder).Run(); }

void LeaveOut(std::string_view name, SideFiles* files) {
  std::erase_if(files->copied,
                [&](const SideFile& file) { return file.name == name; });
}

std::vector<std::string> CheckSideFiles(const SideFiles& files) {
  std::vector<std::string> warnings;
  std::string error;
  for (const BrokenFile& file : files.broken) {
    if (!file.needed) {
      warnings.push_back(file.line + "; it is not copied");
    } else if (error.empty()) {
      error = file.line;
    } else {
      error += fmt::format("; nor can {} be copied", file.name);
    }
  }
  if (!error.empty()) Fail(ErrorKind::kMissing, "{}", error);
  for (const LeftOutFile& file : files.left_out) {
    if (!file.warn) continue;
    warnings.push_back(fmt::format("{}: {}; it is not copied",
                                   (files.folder / file.name).string(),
                                   file.why));
  }
  return warnings;
}

std::vector<std::string> CopySideFiles(const SideFiles& files,
                                       const fs::path& to) {
  std::vector<std::string> names;
  for (const SideFile& file : files.copied) {
    const fs::path copy_path = to / file.as;
    const MappedFile original(files.folder / file.name);
    MakeFolder(copy_path.parent_path());
    AtomicFile copy(copy_path);
    copy.Write(original.bytes());
    copy.Commit();
    names.push_back(file.as);
  }
  return names;
}

std::string TextOfName(std::string_view name) {
  const auto is_utf8 = [](std::string_view part) {
    return ReplaceInvalidUtf8(part) == part;
  };
  std::string text;
  while (!name.empty()) {
    size_t size = 1;
    while (size < 4 && size < name.size() && !is_utf8(name.substr(0, size))) {
      ++size;
    }
    const std::string_view character = name.substr(0, size);
    const auto first = static_cast<unsigned char>(name[0]);
    if (first >= 0x20 && first != 0x7f && first != '%' && is_utf8(character)) {
      text += character;
    } else {
      size = 1;
      text += fmt::format("%{:02X}", first);
    }
    name.remove_prefix(size);
  }
  return text;
}

std::string NameOfText(std::string_view text) {
  std::string name;
  for (size_t at = 0; at < text.size(); ++at) {
    uint8_t byte = 0;
    const char* digits = text.data() + at + 1;
    if (text[at] == '%' && at + 2 < text.size() &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      name += static_cast<char>(byte);
      at += 2;
    } else {
      name += text[at];
    }
  }
  return name;
}

}  // namespace mobe
