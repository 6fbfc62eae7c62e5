// recipe.json: how a model was made, how it came out, and checksums of all of
// it. Compress, its other methods, merge and reconstruct write it beside the
// model, verify holds the model against it, report shows it, and the same
// command knows by it that it is done. It holds nothing that differs between
// two runs with the same bytes: no time, no place but the name of the source's
// folder. It carries its own checksum (base/sealed_json.h).
//
//   "recipe_version"  2; version 1 had no checksum, no sum of README.md, and
//                     was written by compress and merge alone
//   "mobe"            version of the program
//   "kernels"         kernel sets that fitted (results depend on them)
//   "source"          {"name", "files": {name: {"bytes", "sha256"}}}
//   "options"         of the command, as they were resolved; "command" is its
//                     name. Of quantize with "fits", [{"layers", "options"}]:
//                     those of the fits whose factors are stored
//   "sizes"           {"bytes_in", "bytes_out", "parameters_in",
//                      "parameters_out"}: the latter two by part (sizes.h)
//   "matrices"        [{"layer", "matrix", "mse_scaled", "relative",
//                      "worst_expert", "worst_expert_index", "passes", "trace":
//                      {"passes", "mse_scaled"}}]: of reconstruct none, of
//                     quantize those of the fits whose factors it stores
//   "packed"          of a quantised model: what its matrices have lost, by
//                     part and format (packed_parts.h), those of the model that
//                     quantize read included
//   "files"           {name: {"bytes", "sha256"}}: all but itself; the names as
//                     TextOfName (io/side_files.h) makes them
//   "tensors"         {name: SHA-256 of its data}: the factors
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/json.h"
#include "compress/compress.h"
#include "compress/packed_parts.h"

namespace mobe {

inline constexpr char kRecipeFile[] = "recipe.json";
inline constexpr int kRecipeVersion = 2;

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
  std::vector<PackedPart> packed;
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
// The matrices of a recipe, as they stood in it.
Json RecipeMatricesJson(const std::vector<RecipeMatrix>& matrices);

// Of what was read and what was written.
struct RecipeParts {
  const OpenedModel& source;
  std::vector<TensorSpec> written;  // tensors that the family's table knows
  int64_t bytes_out = 0;            // of all tensors
  std::set<std::string> kernels;
  Json matrices = Json::array();
  std::vector<PackedPart> packed;
  std::map<std::string, FileSum> files;
  Json tensors = Json::object();
};
// `job` is the journal's, with "options" and "inputs".
Json MakeRecipe(const RecipeParts& parts, const Json& job);

// Its text, sealed: an entry a line, so that it can be read and compared.
std::string RecipeText(const Json& recipe);

// Fails with kCorruptFile, in one line that names what is wrong, or with
// kUnsupported for a later version.
Recipe ParseRecipe(const Json& json, const std::string& source);
// The same of its text, which must be as it was sealed.
Recipe ParseRecipeText(std::string_view text, const std::string& source);
// The recipe in a model folder; nothing when there is none.
std::optional<Recipe> ReadRecipe(const std::filesystem::path& folder);

// Holds the files of a folder against its recipe. A line for each that is not
// there or differs: naming the factors that differ, or the file alone when none
// of them does or its tensors can't be read.
std::vector<std::string> CheckFiles(const Recipe& recipe,
                                    const std::filesystem::path& folder);

// The name under which the original is published: that of its folder, or
// "org/model" in the cache of Hugging Face. Valid UTF-8, no control characters.
std::string PublicName(const std::filesystem::path& folder);

}  // namespace mobe
