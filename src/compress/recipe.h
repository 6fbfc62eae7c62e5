// recipe.json: how a compressed model was made, how it came out, and checksums
// of all of it. Compress writes it beside the model, verify holds the model
// against it, report shows it. It holds nothing that differs between two runs
// with the same bytes: no time, no place but the name of the original's folder.
//
//   "recipe_version"  1
//   "mobe"            version of the program
//   "kernels"         kernel sets that fitted (results depend on them)
//   "source"          {"name", "files": {name: {"bytes", "sha256"}}}
//   "options"         those of compress, as they were resolved
//   "sizes"           {"bytes_in", "bytes_out", "parameters_in",
//                      "parameters_out"}: the latter two by part (sizes.h)
//   "matrices"        [{"layer", "matrix", "mse_scaled", "relative",
//                      "worst_expert", "worst_expert_index", "passes", "trace":
//                      {"passes", "mse_scaled"}}]
//   "files"           {name: {"bytes", "sha256"}}: all but README.md and
//   itself;
//                     the names as TextOfName (io/side_files.h) makes them
//   "tensors"         {name: SHA-256 of its data}: the factors
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "compress/compress.h"

namespace mobe {

inline constexpr char kRecipeFile[] = "recipe.json";
inline constexpr int kRecipeVersion = 1;

struct FileSum {
  int64_t bytes = 0;
  std::string sha256;  // 64 hexadecimal digits
};

// The error (scaled MSE) that a pass of the fit began with.
struct TracePoint {
  int64_t pass = 0;
  double mse_scaled = 0;
};

struct RecipeMatrix : MatrixReport {
  int64_t passes = 0;
  std::vector<TracePoint> trace;  // passes ascending
};

struct Recipe {
  std::string mobe;
  std::vector<std::string> kernels;
  std::string source;
  std::map<std::string, FileSum> source_files;
  Json options = Json::object();
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  PartSizes parameters_in;
  PartSizes parameters_out;
  std::vector<RecipeMatrix> matrices;
  std::map<std::string, FileSum> files;
  std::map<std::string, std::string> tensors;

  Ratios ratios() const { return RatiosOf(parameters_out, parameters_in); }
  double mean_mse_scaled() const;
};

// Which passes a trace keeps: at most about 100 whatever their number, half of
// them evenly spaced, for the end of the fit, half by a factor, for its
// beginning.
bool IsTraced(int64_t pass, int64_t passes);

// What a fit's record in the journal holds beside its errors: the set of
// kernels and the trace.
Json TraceJson(const std::vector<TracePoint>& trace);

// The recipe of the finished shards in `folder`. `job` is the journal's, with
// "options" and "inputs"; `records` are those of the plan's jobs, in order;
// `copied` are the side files, `config` the text of config.json to come. Reads
// and hashes every file once.
Json MakeRecipe(const OpenedModel& model, const CompressPlan& plan,
                const Json& job, const std::vector<Json>& records,
                const std::filesystem::path& folder,
                const std::vector<std::string>& copied,
                const std::string& config);

// Its text: an entry a line, so that it can be read and compared.
std::string RecipeText(const Json& recipe);

// Fails with kCorruptFile, in one line that names what is wrong, or with
// kUnsupported for a later version.
Recipe ParseRecipe(const Json& json, const std::string& source);
// The recipe in a model folder; nothing when there is none.
std::optional<Recipe> ReadRecipe(const std::filesystem::path& folder);

// Holds the files of the checkpoint's folder against the recipe. A line for
// each that is not there or differs: naming the factors that differ, or the
// file alone when none of them does.
std::vector<std::string> CheckSums(const Recipe& recipe,
                                   const Checkpoint& checkpoint);

// The name under which the original is published: that of its folder, or
// "org/model" in the cache of Hugging Face. Valid UTF-8, no control characters.
std::string PublicName(const std::filesystem::path& folder);

}  // namespace mobe
