// What `mobe report` shows of a compressed model, gathered: from its recipe,
// from its tensors, and from the original where it is at hand.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "compress/recipe.h"
#include "eval/comparison.h"
#include "eval/eval_run.h"
#include "eval/gram.h"
#include "mobe/open_model.h"

namespace mobe {

// Alpha and spectra of one layer and kind.
struct FactoredMatrix {
  int64_t layer = 0;
  std::string kind;
  int64_t experts = 0;
  int64_t num_bases = 0;
  int64_t groups = 1;        // FactorShape::groups
  std::vector<float> alpha;  // [experts, num_bases], 0 outside of the groups
  // Mean over experts of (sum |alpha|)^2 / sum alpha^2: from 1, one basis, to
  // num_bases / groups, all of them alike.
  double bases_used = 0;
  Energy bases;     // of all bases' rows; only of detailed layers
  Energy original;  // of all experts' rows; the same, with the original
};

struct ReportData {
  std::string name;  // of the model's folder
  std::string family;
  MobeFormat format;  // of a model that is quantised alone: no factors
  PartSizes parameters_in;
  PartSizes parameters_out;
  int64_t bytes_in = 0;  // 0: not known
  int64_t bytes_out = 0;
  std::optional<Recipe> recipe;
  // Measured, where the original is at hand and the model quantised or without
  // recipe; else from the recipe.
  std::vector<RecipeMatrix> errors;
  bool measured = false;  // errors are of what is stored now
  // What matrices have lost that are stored in few bits: from the recipe, else
  // of those that the original has, too.
  std::vector<PackedPart> packed;
  std::vector<FactoredMatrix> matrices;  // by layer, then kind
  std::vector<int64_t> detailed;         // layers with spectra and alpha maps
  // Not GatherReport's: of tasks, and of this model beside others.
  std::vector<EvalResult> results;
  std::optional<Comparison> comparison;
};

// At most this many layers, evenly spaced, get spectra and alpha maps: of one
// more kind of large model, each costs seconds and 100 kB of page.
inline constexpr size_t kDetailedLayers = 12;

// Fails with kUserInput when the model is neither factored nor quantised, or
// `original` (may be null) is not what it was made from.
ReportData GatherReport(const OpenedModel& model, const OpenedModel* original,
                        const ProgressFn& progress);

// The page: HTML, one file, nothing loaded from elsewhere.
std::string ReportPage(const ReportData& data);

}  // namespace mobe
