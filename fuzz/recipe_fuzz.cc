// Feeds text to ParseRecipeText, as it is and with a seal that is right, and
// reads what comes out in every way.
#include "base/sealed_json.h"
#include "check.h"
#include "compress/model_card.h"
#include "compress/recipe.h"

namespace mobe {
namespace {

void CheckRecipe(std::string_view text) {
  AllowRefusal([text] {
    const Recipe recipe = ParseRecipeText(text, "recipe.json");
    Check(recipe.mean_mse_scaled() >= 0);
    for (const auto& [name, sum] : recipe.files) {
      Check(!name.empty() && name.front() != '/');
      Check(sum.bytes >= 0 && sum.sha256.size() == 64);
    }
    Check(!ModelCard(recipe, "").empty());
    Check(!ReconstructedCard(recipe, "").empty());
    // Of an empty folder every file is missing.
    Check(CheckFiles(recipe, "/nonexistent").size() == recipe.files.size());
  });
}

}  // namespace
}  // namespace mobe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  mobe::CheckRecipe(text);
  // Hardly any mutation keeps the seal right.
  if (text.find('}') != std::string_view::npos) {
    mobe::CheckRecipe(mobe::SealText(text));
  }
  return 0;
}
