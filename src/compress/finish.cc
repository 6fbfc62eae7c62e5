#include "compress/finish.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "base/file.h"
#include "base/hash.h"
#include "compress/model_card.h"
#include "compress/shards.h"
#include "io/checkpoint_writer.h"
#include "io/fp8.h"
#include "mobe/modeling_file.h"
#include "mobe/packed_model.h"

namespace mobe {

namespace fs = std::filesystem;

namespace {

// The original's, but for what it says of FP8.
Json CopiedConfig(const OpenedModel& model, const CompressPlan& plan) {
  const Json& config = model.checkpoint.config();
  if (!plan.options.keep_fp8) return ConfigWithoutFp8(config);
  std::vector<TensorDecl> tensors;
  for (const Shard& shard : plan.shards) {
    tensors.insert(tensors.end(), shard.tensors.begin(), shard.tensors.end());
  }
  return ConfigWithFp8(config, tensors);
}

FileSum SumOf(const fs::path& path) {
  return {StampOf(path).bytes, HashFile(path)};
}

FileSum SumOf(const std::string& text) {
  return {static_cast<int64_t>(text.size()),
          HashBytes(std::as_bytes(std::span(text)))};
}

int64_t BytesOf(const std::vector<Shard>& shards) {
  int64_t bytes = 0;
  for (const Shard& shard : shards) {
    for (const TensorDecl& tensor : shard.tensors) bytes += tensor.bytes();
  }
  return bytes;
}

}  // namespace

void FinishFolder(const Ending& ending, const Journal& journal,
                  const fs::path& out) {
  ShardSums sums = SumsOf(ending.shards, journal);
  std::vector<PackedPart> packed = ending.packed_before;
  std::ranges::move(sums.packed, std::back_inserter(packed));
  RecipeParts parts{ending.source,          ending.written,
                    BytesOf(ending.shards), ending.kernels,
                    ending.matrices,        std::move(packed),
                    std::move(sums.files),  std::move(sums.tensors)};
  const Json job = ReadJob(out);
  SideFiles side_files = ending.side_files;
  std::erase_if(side_files.copied, [&](const SideFile& file) {
    return file.as == kRecipeFile || file.as == kModelingFile ||
           (ending.card && file.as == kCardFile);
  });
  FinishCheckpoint(
      out, ending.shards, side_files, ending.config,
      [&](const std::vector<std::string>& copied, const std::string& config) {
        for (const std::string& name : copied) {
          parts.files[name] = SumOf(out / name);
        }
        if (ending.shards.size() > 1) {
          constexpr char kIndex[] = "model.safetensors.index.json";
          parts.files[kIndex] = SumOf(out / kIndex);
        }
        parts.files["config.json"] = SumOf(config);
        if (HasAutoMap(ending.config)) {
          parts.files[kModelingFile] =
              WriteFileAtomically(out / kModelingFile, ModelingFile());
        }
        if (ending.card) {
          const Recipe recipe =
              ParseRecipe(MakeRecipe(parts, job), kRecipeFile);
          parts.files[kCardFile] =
              WriteFileAtomically(out / kCardFile, ending.card(recipe));
        }
        WriteFileAtomically(out / kRecipeFile,
                            RecipeText(MakeRecipe(parts, job)));
      });
}

std::string KeepCard(SideFiles* files) {
  const auto card =
      std::ranges::find(files->copied, kCardFile, &SideFile::name);
  if (card == files->copied.end()) return "";
  card->as = kOriginalCardFile;
  LeaveOut(kOriginalCardFile, files);
  return ReadCard(files->folder / kCardFile);
}

Json RecipeMatrixOf(const FactorJob& job, Json record) {
  record.erase("kernels");
  record.erase("sha256");
  record["layer"] = job.layer;
  record["matrix"] = job.kind->name;
  return record;
}

void FinishModel(const OpenedModel& model, const CompressPlan& plan,
                 const fs::path& out, const std::vector<Json>& records,
                 const Journal& journal) {
  Ending ending{model, plan.shards, plan.side_files,
                ListTensors(*model.family, model.config, plan.format),
                PackedConfig(FactoredConfig(CopiedConfig(model, plan),
                                            model.config, plan.format),
                             plan.format, plan.packing.formats)};
  const std::string card = KeepCard(&ending.side_files);
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    ending.kernels.insert(records[i].at("kernels"));
    ending.matrices.push_back(RecipeMatrixOf(plan.jobs[i], records[i]));
  }
  ending.card = [&](const Recipe& recipe) { return ModelCard(recipe, card); };
  FinishFolder(ending, journal, out);
}

}  // namespace mobe
