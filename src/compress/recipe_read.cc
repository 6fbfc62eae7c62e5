// Reading recipe.json, which anybody may have written.
#include <algorithm>
#include <cctype>
#include <iterator>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "base/sealed_json.h"
#include "compress/recipe.h"
#include "io/safetensors.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// A value of the recipe and where it stands.
class Node {
 public:
  Node(const Json& json, const std::string& source, std::string path)
      : json_(json), source_(source), path_(std::move(path)) {}

  Node At(const char* key) const {
    if (!json_.is_object()) Reject("an object");
    const auto found = json_.find(key);
    const std::string path = path_.empty() ? key : path_ + "." + key;
    if (found == json_.end()) {
      Fail(ErrorKind::kCorruptFile, "{}: damaged recipe: no \"{}\" in it; {}",
           source_, path, kAdvice);
    }
    return {*found, source_, path};
  }

  bool Has(const char* key) const {
    return json_.is_object() && json_.contains(key);
  }

  int64_t Integer(int64_t least = 0) const {
    const bool fits =
        json_.is_number_integer() &&
        (!json_.is_number_unsigned() || json_.get<uint64_t>() <= INT64_MAX) &&
        json_.get<int64_t>() >= least;
    if (!fits) Reject("an integer, {} or more", least);
    return json_.get<int64_t>();
  }

  // No error comes near the bound; what is computed from one stays finite.
  double NotNegative() const {
    constexpr double kMost = 1e100;
    const bool fits = json_.is_number() && json_.get<double>() >= 0 &&
                      json_.get<double>() <= kMost;
    if (!fits) Reject("a number, 0 or more");
    return json_.get<double>();
  }

  std::string Text() const {
    if (!json_.is_string()) Reject("a string");
    return json_.get<std::string>();
  }

  std::string Hash() const {
    std::string text = Text();
    const bool fits =
        text.size() == 64 && std::ranges::all_of(text, [](unsigned char c) {
          return std::isdigit(c) || (c >= 'a' && c <= 'f');
        });
    if (!fits) Reject("64 hexadecimal digits");
    return text;
  }

  // use(element) of a list.
  template <class Use>
  void Each(const Use& use) const {
    if (!json_.is_array()) Reject("a list");
    for (size_t i = 0; i < json_.size(); ++i) {
      use(Node(json_[i], source_, fmt::format("{}[{}]", path_, i)));
    }
  }

  // use(key, value) of an object.
  template <class Use>
  void EachKey(const Use& use) const {
    if (!json_.is_object()) Reject("an object");
    for (const auto& [key, value] : json_.items()) {
      use(key, Node(value, source_, path_ + "." + Excerpt(key)));
    }
  }

  template <class... Args>
  [[noreturn]] void Reject(fmt::format_string<Args...> expected,
                           Args&&... args) const {
    Fail(ErrorKind::kCorruptFile,
         "{}: damaged recipe: \"{}\" is {}, expected {}; {}", source_, path_,
         Excerpt(json_), fmt::format(expected, std::forward<Args>(args)...),
         kAdvice);
  }

  const Json& json() const { return json_; }

 private:
  static constexpr char kAdvice[] = "restore the file, or remove it";

  const Json& json_;
  const std::string& source_;
  std::string path_;
};

// Those of a file that differs: a line for each that the recipe knows.
std::vector<std::string> DifferentFactors(const Recipe& recipe,
                                          const std::string& path) {
  std::vector<std::string> faults;
  if (!path.ends_with(".safetensors")) return faults;
  try {
    const SafetensorsFile file(path);
    for (const TensorView& tensor : file.tensors()) {
      const auto expected = recipe.tensors.find(tensor.name);
      if (expected == recipe.tensors.end()) continue;
      const std::string hash = HashBytes(tensor.data);
      file.file().Evict(tensor.data);
      if (hash == expected->second) continue;
      faults.push_back(fmt::format("{}: tensor {} has SHA-256 {}, {} says {}",
                                   path, tensor.name, hash, kRecipeFile,
                                   expected->second));
    }
  } catch (const Error&) {  // its header is damaged
    faults.clear();
  }
  return faults;
}

PartSizes ReadParts(const Node& node) {
  PartSizes sizes;
  for (const PartRow& part : kParts) {
    if (part.size == &PartSizes::other && !node.Has(part.name)) continue;
    sizes.*part.size = node.At(part.name).Integer();
    // Their sum must fit, too.
    if (sizes.*part.size > (int64_t{1} << 60)) {
      node.At(part.name).Reject("at most 2^60");
    }
  }
  return sizes;
}

// Nothing outside the folder is to be read.
bool IsInside(const std::string& name) {
  const fs::path path = name;
  return !name.empty() && !name.ends_with('/') && path.is_relative() &&
         name.find('\0') == std::string::npos &&
         std::ranges::none_of(path, [](const fs::path& part) {
           return part == "." || part == "..";
         });
}

std::map<std::string, FileSum> ReadFiles(const Node& node) {
  std::map<std::string, FileSum> files;
  node.EachKey([&](const std::string& text, const Node& file) {
    const std::string name = NameOfText(text);
    if (!IsInside(name)) file.Reject("the name of a file in the folder");
    files[name] = {file.At("bytes").Integer(), file.At("sha256").Hash()};
  });
  return files;
}

std::vector<TracePoint> ReadTrace(const Node& node) {
  std::vector<TracePoint> trace;
  node.At("passes").Each([&](const Node& pass) {
    trace.push_back({pass.Integer(trace.empty() ? 1 : trace.back().pass + 1)});
  });
  size_t count = 0;
  node.At("mse_scaled").Each([&](const Node& error) {
    if (count < trace.size()) trace[count].mse_scaled = error.NotNegative();
    ++count;
  });
  if (count != trace.size()) {
    node.At("mse_scaled").Reject("as many numbers as passes");
  }
  return trace;
}

RecipeMatrix ReadMatrix(const Node& node) {
  RecipeMatrix matrix;
  matrix.layer = node.At("layer").Integer();
  matrix.kind = node.At("matrix").Text();
  matrix.error.scaled_mse = node.At("mse_scaled").NotNegative();
  matrix.error.relative = node.At("relative").NotNegative();
  matrix.error.worst_expert = node.At("worst_expert").NotNegative();
  matrix.error.worst_expert_index = node.At("worst_expert_index").Integer();
  matrix.passes = node.At("passes").Integer();
  matrix.trace = ReadTrace(node.At("trace"));
  return matrix;
}

PackedPart ReadPackedPart(const Node& node) {
  PackedPart part;
  part.part = node.At("part").Text();
  part.format = node.At("format").Text();
  part.matrices = node.At("matrices").Integer();
  part.bytes_in = node.At("bytes_in").Integer();
  part.bytes_out = node.At("bytes_out").Integer();
  part.loss = {node.At("error_square").NotNegative(),
               node.At("square").NotNegative()};
  part.worst = node.At("worst").At("tensor").Text();
  part.worst_relative = node.At("worst").At("relative").NotNegative();
  return part;
}

}  // namespace

double Recipe::mean_mse_scaled() const {
  double sum = 0;
  for (const RecipeMatrix& matrix : matrices) sum += matrix.error.scaled_mse;
  return matrices.empty() ? 0 : sum / static_cast<double>(matrices.size());
}

Recipe ParseRecipe(const Json& json, const std::string& source) {
  const Node node(json, source, "");
  const int64_t version = node.At("recipe_version").Integer();
  if (version < 1 || version > kRecipeVersion) {
    Fail(ErrorKind::kUnsupported,
         "{}: recipe version {}, this mobe knows 1 to {}; use a newer one",
         source, version, kRecipeVersion);
  }
  Recipe recipe;
  recipe.mobe = node.At("mobe").Text();
  node.At("kernels").Each(
      [&](const Node& set) { recipe.kernels.push_back(set.Text()); });
  recipe.source = node.At("source").At("name").Text();
  recipe.source_files = ReadFiles(node.At("source").At("files"));
  const Node options = node.At("options");
  if (!options.json().is_object()) options.Reject("an object");
  recipe.options = options.json();
  const Node sizes = node.At("sizes");
  recipe.bytes_in = sizes.At("bytes_in").Integer();
  recipe.bytes_out = sizes.At("bytes_out").Integer();
  recipe.parameters_in = ReadParts(sizes.At("parameters_in"));
  recipe.parameters_out = ReadParts(sizes.At("parameters_out"));
  node.At("matrices").Each([&](const Node& matrix) {
    recipe.matrices.push_back(ReadMatrix(matrix));
  });
  if (json.contains("packed")) {
    node.At("packed").Each([&](const Node& part) {
      recipe.packed.push_back(ReadPackedPart(part));
    });
  }
  recipe.files = ReadFiles(node.At("files"));
  node.At("tensors").EachKey([&](const std::string& name, const Node& hash) {
    recipe.tensors[name] = hash.Hash();
  });
  return recipe;
}

Recipe ParseRecipeText(std::string_view text, const std::string& source) {
  if (HasSeal(text)) return ParseRecipe(ParseSealed(text, source), source);
  const Json json = ParseJson(text, source);
  Recipe recipe = ParseRecipe(json, source);
  if (json.at("recipe_version") == 1 && !json.contains("checksum")) {
    return recipe;
  }
  Fail(ErrorKind::kCorruptFile,
       "{}: damaged recipe: its checksum is missing; restore the file, or "
       "remove it",
       source);
}

std::optional<Recipe> ReadRecipe(const fs::path& folder) {
  const fs::path path = folder / kRecipeFile;
  if (!IsNamed(path)) return std::nullopt;
  return ParseRecipeText(ReadSmallFile(path), path.string());
}

std::vector<std::string> CheckFiles(const Recipe& recipe,
                                    const fs::path& folder) {
  std::vector<std::pair<std::string, std::string>> files;  // path, expected
  for (const auto& [name, sum] : recipe.files) {
    files.emplace_back((folder / name).string(), sum.sha256);
  }
  // Empty: not there.
  std::vector<std::string> found(files.size());
  ParallelFor(static_cast<int64_t>(files.size()), [&](int64_t i) {
    if (Exists(files[i].first)) found[i] = HashFile(files[i].first);
  });

  std::vector<std::string> faults;
  for (size_t i = 0; i < files.size(); ++i) {
    const auto& [path, expected] = files[i];
    if (found[i].empty()) {
      faults.push_back(
          fmt::format("{}: not there, but {} lists it", path, kRecipeFile));
    } else if (found[i] != expected) {
      std::vector<std::string> factors = DifferentFactors(recipe, path);
      if (factors.empty()) {
        factors.push_back(fmt::format("{}: has SHA-256 {}, {} says {}", path,
                                      found[i], kRecipeFile, expected));
      }
      std::ranges::move(factors, std::back_inserter(faults));
    }
  }
  return faults;
}

}  // namespace mobe
