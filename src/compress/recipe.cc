#include "compress/recipe.h"

#include <algorithm>
#include <cmath>

#include "base/sealed_json.h"
#include "io/hub.h"
#include "io/side_files.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

Json PartsJson(const PartSizes& sizes) {
  Json json;
  for (const PartRow& part : kParts) {
    const bool left_out = part.size == &PartSizes::other && sizes.other == 0;
    if (!left_out) json[part.name] = sizes.*part.size;
  }
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

Json RecipeMatricesJson(const std::vector<RecipeMatrix>& matrices) {
  Json json = Json::array();
  for (const RecipeMatrix& matrix : matrices) {
    json.push_back({{"layer", matrix.layer},
                    {"matrix", matrix.kind},
                    {"mse_scaled", matrix.error.scaled_mse},
                    {"relative", matrix.error.relative},
                    {"worst_expert", matrix.error.worst_expert},
                    {"worst_expert_index", matrix.error.worst_expert_index},
                    {"passes", matrix.passes},
                    {"trace", TraceJson(matrix.trace)}});
  }
  return json;
}

Json MakeRecipe(const RecipeParts& parts, const Json& job) {
  const OpenedModel& model = parts.source;
  Json files = Json::object();
  for (const auto& [name, sum] : parts.files) {
    files[TextOfName(name)] = {{"bytes", sum.bytes}, {"sha256", sum.sha256}};
  }
  Json json = {
      {"recipe_version", kRecipeVersion},
      {"mobe", MOBE_VERSION},
      {"kernels", parts.kernels},
      {"source",
       {{"name", PublicName(model.checkpoint.folder())},
        {"files", SourceFiles(job.at("inputs"))}}},
      {"options", job.at("options")},
      {"sizes",
       {{"bytes_in", model.checkpoint.bytes()},
        {"bytes_out", parts.bytes_out},
        {"parameters_in", PartsJson(CountParts(model, model.tensors))},
        {"parameters_out", PartsJson(CountParts(model, parts.written))}}},
      {"matrices", parts.matrices},
      {"files", std::move(files)},
      {"tensors", parts.tensors}};
  if (!parts.packed.empty()) json["packed"] = PackedPartsJson(parts.packed);
  return json;
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
  return SealText(text + "\n}\n");
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
