#include "compress/recipe.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <unordered_set>

#include "base/file.h"
#include "base/hash.h"
#include "base/parallel.h"
#include "io/hub.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

Json PartsJson(const PartSizes& sizes) {
  Json json;
  for (const PartRow& part : kParts) json[part.name] = sizes.*part.size;
  return json;
}

// The journal's fingerprints, less the times of the files.
Json SourceFiles(const Json& inputs) {
  Json files = Json::object();
  for (const auto& [name, file] : inputs.items()) {
    files[name] = {{"bytes", file.at("bytes")}, {"sha256", file.at("hash")}};
  }
  return files;
}

// The data of each factor in the file, by name.
Json HashFactors(const fs::path& path,
                 const std::unordered_set<std::string>& factors) {
  const SafetensorsFile file(path);
  Json hashes = Json::object();
  for (const TensorView& tensor : file.tensors()) {
    if (!factors.contains(tensor.name)) continue;
    hashes[tensor.name] = HashBytes(tensor.data);
    file.file().Evict(tensor.data);
  }
  return hashes;
}

struct Sums {
  Json files = Json::object();
  Json tensors = Json::object();
};

Sums SumFolder(const CompressPlan& plan, const fs::path& folder,
               const std::vector<std::string>& others) {
  std::unordered_set<std::string> factors;
  for (const FactorJob& job : plan.jobs) {
    for (const TensorDecl& tensor : job.tensors) factors.insert(tensor.name);
  }
  std::vector<std::string> names = others;
  for (const Shard& shard : plan.shards) names.push_back(shard.file);
  std::vector<Json> files(names.size());
  std::vector<Json> tensors(names.size(), Json::object());
  ParallelFor(static_cast<int64_t>(names.size()), [&](int64_t i) {
    const fs::path path = folder / names[i];
    files[i] = {{"bytes", fs::file_size(path)}, {"sha256", HashFile(path)}};
    if (names[i].ends_with(".safetensors")) {
      tensors[i] = HashFactors(path, factors);
    }
  });
  Sums sums;
  for (size_t i = 0; i < names.size(); ++i) {
    sums.files[TextOfName(names[i])] = files[i];
    sums.tensors.update(tensors[i]);
  }
  return sums;
}

}  // namespace

bool IsTraced(int64_t pass, int64_t passes) {
  constexpr int64_t kEven = 50;
  if (pass == passes || pass % ((passes + kEven - 1) / kEven) == 0) return true;
  int64_t next = 1;
  while (next < pass) next += 1 + next / 4;
  return next == pass;
}

Json TraceJson(const std::vector<TracePoint>& trace) {
  Json json = {{"passes", Json::array()}, {"mse_scaled", Json::array()}};
  for (const TracePoint& point : trace) {
    if (!std::isfinite(point.mse_scaled)) continue;  // before a restart
    json["passes"].push_back(point.pass);
    // Six digits: more than any plot shows.
    json["mse_scaled"].push_back(
        std::stod(fmt::format("{:.6g}", point.mse_scaled)));
  }
  return json;
}

Json MakeRecipe(const OpenedModel& model, const CompressPlan& plan,
                const Json& job, const std::vector<Json>& records,
                const fs::path& folder, const std::vector<std::string>& copied,
                const std::string& config) {
  std::set<std::string> kernels;
  Json matrices = Json::array();
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    Json matrix = records[i];
    kernels.insert(matrix.at("kernels"));
    matrix.erase("kernels");
    matrix["layer"] = plan.jobs[i].layer;
    matrix["matrix"] = plan.jobs[i].kind->name;
    matrices.push_back(std::move(matrix));
  }
  std::vector<std::string> others = copied;
  if (plan.shards.size() > 1) {
    others.emplace_back("model.safetensors.index.json");
  }
  Sums sums = SumFolder(plan, folder, others);
  sums.files["config.json"] = {
      {"bytes", config.size()},
      {"sha256", HashBytes(std::as_bytes(std::span(config)))}};
  const auto specs = ListTensors(*model.family, model.config, plan.format);
  return {{"recipe_version", kRecipeVersion},
          {"mobe", MOBE_VERSION},
          {"kernels", kernels},
          {"source",
           {{"name", PublicName(model.checkpoint.folder())},
            {"files", SourceFiles(job.at("inputs"))}}},
          {"options", job.at("options")},
          {"sizes",
           {{"bytes_in", plan.bytes_in},
            {"bytes_out", plan.bytes_out},
            {"parameters_in", PartsJson(CountParts(model.tensors))},
            {"parameters_out", PartsJson(CountParts(specs))}}},
          {"matrices", std::move(matrices)},
          {"files", std::move(sums.files)},
          {"tensors", std::move(sums.tensors)}};
}

std::string RecipeText(const Json& recipe) {
  const auto replace = Json::error_handler_t::replace;
  std::string text = "{";
  const char* next_key = "\n";
  for (const auto& [key, value] : recipe.items()) {
    text += fmt::format("{}{}: ", next_key, Json(key).dump());
    next_key = ",\n";
    const bool by_line =
        !value.empty() && (value.is_object() ||
                           (value.is_array() && value.front().is_structured()));
    if (!by_line) {
      text += value.dump(-1, ' ', false, replace);
      continue;
    }
    text += value.is_object() ? "{" : "[";
    const char* next_entry = "\n ";
    for (const auto& [name, entry] : value.items()) {
      text += next_entry;
      next_entry = ",\n ";
      if (value.is_object()) text += fmt::format("{}: ", Json(name).dump());
      text += entry.dump(-1, ' ', false, replace);
    }
    text += value.is_object() ? "\n}" : "\n]";
  }
  return text + "\n}\n";
}

std::string PublicName(const fs::path& folder) {
  fs::path path = fs::absolute(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // "model/"
  std::string name = HubName(folder).value_or(path.filename().string());
  for (char& c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '_';
  }
  // What is no UTF-8 becomes U+FFFD.
  return Json::parse(
      Json(name).dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace mobe
