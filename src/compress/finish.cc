#include "compress/finish.h"

#include "base/file.h"
#include "compress/journal.h"
#include "compress/model_card.h"
#include "compress/recipe.h"
#include "io/checkpoint_writer.h"
#include "io/fp8.h"

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

}  // namespace

void FinishModel(const OpenedModel& model, const CompressPlan& plan,
                 const fs::path& out, const std::vector<Json>& records) {
  const bool has_card = plan.side_files.Find(kCardFile) != nullptr;
  const std::string card =
      has_card ? ReadCard(model.checkpoint.folder() / kCardFile) : "";
  // The original's card stays under another name; a recipe that it has is not
  // of this model.
  SideFiles side_files = plan.side_files;
  LeaveOut(kRecipeFile, &side_files);
  for (SideFile& file : side_files.copied) {
    if (file.name != kCardFile) continue;
    file.as = kOriginalCardFile;
    LeaveOut(kOriginalCardFile, &side_files);
    break;
  }
  FinishCheckpoint(
      out, plan.shards, side_files,
      FactoredConfig(CopiedConfig(model, plan), model.config, plan.format),
      [&](const std::vector<std::string>& copied, const std::string& config) {
        const Json recipe =
            MakeRecipe(model, plan, ReadJob(out), records, out, copied, config);
        WriteFileAtomically(out / kRecipeFile, RecipeText(recipe));
        WriteFileAtomically(out / kCardFile,
                            ModelCard(ParseRecipe(recipe, kRecipeFile), card));
      });
}

}  // namespace mobe
