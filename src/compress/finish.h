// The last step of a job that writes a model.
#pragma once

#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "compress/compress.h"
#include "compress/journal.h"
#include "compress/packed_parts.h"
#include "compress/recipe.h"
#include "io/side_files.h"

namespace mobe {

// What a folder is made whole with.
struct Ending {
  const OpenedModel& source;
  const std::vector<Shard>& shards;
  SideFiles side_files;             // those that are written anew are left out
  std::vector<TensorSpec> written;  // tensors that the family's table knows
  Json config;
  std::set<std::string> kernels = {};
  Json matrices = Json::array();  // as in the recipe
  // Of the model that was read: what its matrices have lost already.
  std::vector<PackedPart> packed_before = {};
  // The text of the model card; null: the source's, as it is.
  std::function<std::string(const Recipe&)> card = nullptr;
};

// Once every shard is written and noted: writes all else that belongs to the
// model, the model card, the recipe and, of a native one, the file for
// transformers among it, and config.json last. Then the model is whole.
void FinishFolder(const Ending& ending, const Journal& journal,
                  const std::filesystem::path& out);

// That of a compress job. `records` are those of the plan's jobs, in order. The
// original's README.md becomes README.original.md.
void FinishModel(const OpenedModel& model, const CompressPlan& plan,
                 const std::filesystem::path& out,
                 const std::vector<Json>& records, const Journal& journal);

// Gives the original's card its other name among the side files. Returns its
// text.
std::string KeepCard(SideFiles* files);

// A record of a matrix as the recipe has it.
Json RecipeMatrixOf(const FactorJob& job, Json record);

}  // namespace mobe
