#include "io/hub.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "base/file.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

constexpr char kConfig[] = "config.json";
constexpr char kCache[] = "models--";

bool IsThere(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

// The names in a folder, sorted; none when it can't be read.
std::vector<std::string> NamesIn(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  while (!error && entry != fs::directory_iterator()) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
  }
  std::ranges::sort(names);
  return names;
}

// The first name that ends so; empty when none does.
std::string FirstEnding(const std::vector<std::string>& names,
                        std::string_view ending) {
  const auto found = std::ranges::find_if(
      names, [&](const std::string& name) { return name.ends_with(ending); });
  return found == names.end() ? "" : *found;
}

// A small file's text without white space around it; empty when it can't be
// read.
std::string TextOf(const fs::path& path) {
  try {
    std::string text = ReadSmallFile(path, 1 << 20);
    text.erase(text.find_last_not_of(" \t\r\n") + 1);
    return text;
  } catch (const Error&) {
    return "";
  }
}

// The string of that name in a file of JSON; empty when there is none.
std::string StringIn(const fs::path& path, const char* key) {
  try {
    const Json json = ParseJson(TextOf(path), path.string());
    return json.is_object() ? json.value(key, Json("")).get<std::string>() : "";
  } catch (const Error&) {
    return "";
  } catch (const Json::exception&) {
    return "";
  }
}

// The folder of a model below this one: that of the cache's main branch, or
// the first that there is; empty when there is none.
fs::path ModelBelow(const fs::path& folder) {
  const fs::path snapshots = folder / "snapshots";
  const std::string commit = TextOf(folder / "refs" / "main");
  if (!commit.empty() && IsThere(snapshots / commit / kConfig)) {
    return snapshots / commit;
  }
  for (const fs::path& parent : {snapshots, folder}) {
    for (const std::string& name : NamesIn(parent)) {
      if (IsThere(parent / name / kConfig)) return parent / name;
    }
  }
  return {};
}

// The value of an environment variable; empty where it is not set.
fs::path Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// As huggingface_hub finds it.
fs::path CacheFolder() {
  fs::path cache = Environment("HF_HUB_CACHE");
  if (!cache.empty()) return cache;
  if (const fs::path home = Environment("HF_HOME"); !home.empty()) {
    return home / "hub";
  }
  fs::path caches = Environment("XDG_CACHE_HOME");
  if (caches.empty()) caches = Environment("HOME") / ".cache";
  return caches / "huggingface" / "hub";
}

// Whether it is one name, a slash and another.
bool IsHubName(std::string_view name) {
  constexpr std::string_view kOthers = "-_.";
  const auto is_letter = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0;
  };
  const auto is_part = [&](std::string_view part) {
    return !part.empty() && is_letter(part.front()) &&
           std::ranges::all_of(part, [&](char c) {
             return is_letter(c) || kOthers.find(c) != std::string_view::npos;
           });
  };
  const size_t slash = name.find('/');
  return slash != std::string_view::npos && is_part(name.substr(0, slash)) &&
         is_part(name.substr(slash + 1));
}

// A file that a download has not finished, where Hugging Face's tools and
// others keep it while they load: beside the model, in a folder of their own
// there, or in the cache; empty when there is none.
fs::path Unfinished(const fs::path& folder) {
  for (const fs::path& place :
       {folder, folder / ".cache" / "huggingface" / "download",
        fs::absolute(folder).parent_path().parent_path() / "blobs"}) {
    if (place.filename() == "blobs" && !HubName(folder)) continue;
    const std::string name = FirstEnding(NamesIn(place), ".incomplete");
    if (!name.empty()) return place / name;
  }
  return {};
}

// For a message about what is missing in the folder.
std::string UnfinishedNote(const fs::path& folder) {
  const fs::path file = Unfinished(folder);
  return file.empty()
             ? ""
             : fmt::format(" ({} is of an unfinished download)", file.string());
}

// How to get a file of the model in `folder`.
std::string Download(const fs::path& folder, const std::string& file) {
  const auto name = HubName(folder);
  return name ? fmt::format("'hf download {} {}' gets it", *name, file)
              : fmt::format("'hf download MODEL {} --local-dir {}' gets it",
                            file, folder.string());
}

[[noreturn]] void FailWithoutConfig(const fs::path& folder) {
  if (IsThere(folder / kJobFolder)) {
    Fail(ErrorKind::kMissing,
         "{}: no model yet, but a job that is not finished, or a part of one; "
         "run its command again, or mobe merge on all parts",
         folder.string());
  }
  const fs::path below = ModelBelow(folder);
  if (!below.empty()) {
    Fail(ErrorKind::kMissing, "{}: no model itself{}; name {}", folder.string(),
         IsThere(folder / "snapshots")
             ? ", but its folder in Hugging Face's cache"
             : "",
         below.string());
  }
  const fs::path adapter = folder / "adapter_config.json";
  if (IsThere(adapter)) {
    const std::string base = StringIn(adapter, "base_model_name_or_path");
    Fail(ErrorKind::kUnsupported,
         "{}: an adapter of {}, no model; merge it into that first "
         "(merge_and_unload of peft)",
         adapter.string(), base.empty() ? "another model" : base);
  }
  const std::string gguf = FirstEnding(NamesIn(folder), ".gguf");
  if (!gguf.empty()) {
    Fail(ErrorKind::kUnsupported,
         "{}: GGUF can't be read; get the model's safetensors, with "
         "config.json",
         (folder / gguf).string());
  }
  if (IsThere(folder / "params.json")) {
    Fail(ErrorKind::kUnsupported,
         "{}: the publisher's own format can't be read; get the model in that "
         "of transformers, with config.json",
         (folder / "params.json").string());
  }
  Fail(ErrorKind::kMissing, "{}: {}, so this is no model's folder; {}",
       (folder / kConfig).string(), Absence(folder / kConfig),
       Download(folder, kConfig));
}

}  // namespace

fs::path ModelFolder(const std::string& name) {
  if (IsThere(name) || !IsHubName(name)) return name;
  const fs::path cache = CacheFolder();
  std::string in_cache = kCache + name;
  in_cache.replace(in_cache.find('/'), 1, "--");
  fs::path folder = ModelBelow(cache / in_cache);
  if (!folder.empty()) return folder;
  Fail(ErrorKind::kMissing,
       "{0}: no such folder, and no such model in Hugging Face's cache, {1}; "
       "'hf download {0}' gets it",
       name, cache.string());
}

std::optional<std::string> HubName(const fs::path& folder) {
  fs::path path = fs::absolute(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "model/"
  const fs::path above = path.parent_path();
  std::string name = above.parent_path().filename().string();
  if (above.filename() != "snapshots" || !name.starts_with(kCache)) {
    return std::nullopt;
  }
  name.erase(0, std::string_view(kCache).size());
  const size_t dashes = name.find("--");
  if (dashes == std::string::npos) return name;
  name[dashes] = '/';
  name.erase(dashes + 1, 1);
  return name;
}

void CheckModelFolder(const fs::path& folder) {
  if (!IsFolder(folder)) {
    Fail(ErrorKind::kMissing, "{}: {}", folder.string(),
         IsThere(folder) ? "a file, expected a model's folder"
                         : "no such folder");
  }
  if (!IsThere(folder / kConfig)) FailWithoutConfig(folder);
}

void FailWithoutWeights(const fs::path& folder) {
  constexpr char kSingle[] = "model.safetensors";
  constexpr char kIndexName[] = "model.safetensors.index.json";
  const std::vector<std::string> names = NamesIn(folder);
  for (const char* name : {kSingle, kIndexName}) {
    if (std::ranges::find(names, name) == names.end()) continue;
    Fail(ErrorKind::kMissing, "{}: {}; {}", (folder / name).string(),
         Absence(folder / name), Download(folder, name));
  }
  const auto shard = std::ranges::find_if(names, [](const std::string& name) {
    return name.starts_with("model-") && name.ends_with(".safetensors");
  });
  if (shard != names.end()) {
    Fail(ErrorKind::kMissing,
         "{}: not there, but {} and the like are, and it says what is in each; "
         "{}",
         (folder / kIndexName).string(), *shard, Download(folder, kIndexName));
  }
  for (const char* ending :
       {".gguf", ".bin", ".pth", ".pt", ".h5", ".msgpack", ".safetensors"}) {
    const std::string other = FirstEnding(names, ending);
    if (other.empty()) continue;
    Fail(ErrorKind::kMissing,
         "{}: neither {} nor {} is there; {} and what other formats there are "
         "must be converted to those first",
         folder.string(), kSingle, kIndexName, other);
  }
  Fail(ErrorKind::kMissing, "{}: neither {} nor {} is there{}; {}",
       folder.string(), kSingle, kIndexName, UnfinishedNote(folder),
       Download(folder, "--include '*.safetensors*'"));
}

void FailWithoutShards(const fs::path& index,
                       const std::vector<std::string>& missing) {
  const fs::path folder = index.parent_path();
  const fs::path first = folder / missing.front();
  std::string more;
  if (missing.size() > 1) {
    more = fmt::format(" and {} more", missing.size() - 1);
  }
  const std::vector<std::string> names = NamesIn(folder);
  for (const char* ending : {".aria2", ".part", ".crdownload"}) {
    if (std::ranges::find(names, missing.front() + ending) == names.end()) {
      continue;
    }
    more += fmt::format(" ({}{} is of an unfinished download)", missing.front(),
                        ending);
  }
  more += UnfinishedNote(folder);
  Fail(ErrorKind::kMissing, "{}: {}, but {} names it{}; {}", first.string(),
       Absence(first), index.string(), more,
       Download(folder, missing.size() == 1 ? missing.front()
                                            : "--include '*.safetensors*'"));
}

void CheckQuantConfig(const fs::path& folder, const Json& config,
                      const std::vector<const TensorView*>& tensors) {
  const fs::path path = folder / "hf_quant_config.json";
  const auto known = config.find("quantization_config");
  if (!IsThere(path) || (known != config.end() && !known->is_null()) ||
      std::ranges::none_of(tensors, [](const TensorView* tensor) {
        return tensor->name.ends_with("weight_scale");
      })) {
    return;
  }
  std::string method;
  try {
    const Json json = ParseJson(TextOf(path), path.string());
    method = json.at("quantization").at("quant_algo").get<std::string>();
  } catch (const Error&) {
  } catch (const Json::exception&) {
  }
  Fail(ErrorKind::kUnsupported,
       "{}: the model is quantised{} by NVIDIA's Model Optimizer, which can't "
       "be read; take the original, in BF16 or FP8",
       path.string(), method.empty() ? "" : fmt::format(" ({})", method));
}

}  // namespace mobe
