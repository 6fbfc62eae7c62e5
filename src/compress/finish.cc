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
  const std::string card = ReadCard(model.checkpoint.folder() / kCardFile);
  FinishCheckpoint(
      out, plan.shards, model.checkpoint.folder(),
      FactoredConfig(CopiedConfig(model, plan), model.config, plan.format),
      {kCardFile, kRecipeFile},
      [&](std::vector<std::string> copied, const std::string& config) {
        if (!card.empty()) {
          WriteFileAtomically(out / kOriginalCardFile, card);
          std::erase(copied, kOriginalCardFile);
          copied.emplace_back(kOriginalCardFile);
        }
        const Json recipe =
            MakeRecipe(model, plan, ReadJob(out), records, out, copied, config);
        WriteFileAtomically(out / kRecipeFile, RecipeText(recipe));
        WriteFileAtomically(out / kCardFile,
                            ModelCard(ParseRecipe(recipe, kRecipeFile), card));
      });
}

}  // namespace mobe
