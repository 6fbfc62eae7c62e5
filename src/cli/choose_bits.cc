#include "cli/choose_bits.h"

#include <algorithm>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "base/disk.h"
#include "base/error.h"
#include "compress/bit_choice.h"
#include "compress/journal.h"
#include "eval/damage.h"
#include "io/checkpoint_writer.h"
#include "mobe/mixed_model.h"
#include "mobe/model_identity.h"
#include "mobe/moments_file.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// What a job's options say of what was asked for, beside what came of it.
Json Asked(const BitBudget& budget, const std::string& calibration) {
  Json factored = Json::array();
  for (const FactoredForm& form : budget.factored) {
    factored.push_back(form.identity);
  }
  Json asked = {{"command", budget.command},
                {"bytes", budget.bytes},
                {"parts", PartNames(budget.parts)},
                {"calibrate", calibration},
                {"factored", factored}};
  if (!factored.empty()) asked["refit_passes"] = budget.refit_passes;
  return asked;
}

// The options of the job in `out`, if there is one. Fails where it was asked
// for something else.
std::optional<Json> JobOf(const fs::path& out, const Json& asked) {
  std::optional<Json> job = OptionsOfJob(out);
  if (!job) return std::nullopt;
  Json now = *job;
  now.update(asked);
  CheckOptionsOfJob(out, now);
  return job;
}

std::optional<BitChoice> ChosenBefore(const fs::path& out, const Json& asked) {
  const std::optional<Json> job = JobOf(out, asked);
  if (!job) return std::nullopt;
  BitChoice choice;
  choice.factored_layers = job->at("factored_layers");
  for (const Json& text : job->at("part_formats")) {
    choice.formats.push_back(PartFormatOf(text));
  }
  return choice;
}

BitChoice Choose(const OpenedModel& model, const BitBudget& budget,
                 const fs::path& out, const ProgressFn& progress,
                 const QuantizeOptions& quantize) {
  CheckOutputFolder(out, {Journal::kFolder});  // not after all the work
  CheckIsOriginal(model);
  CheckDiskSpace(out, quantize.calibration->bytes);
  const FolderLock lock(out);
  const ProgressFn watched = [&](const ProgressEvent& event) {
    if (quantize.stop && quantize.stop()) {
      throw Stopped(
          "stopped while choosing formats, which begins anew; run the same "
          "command");
    }
    progress(event);
  };
  std::vector<OpenedModel> factored;
  factored.reserve(budget.factored.size());
  for (const FactoredForm& form : budget.factored) {
    factored.push_back(MixModels(OpenModel(model.checkpoint.folder()),
                                 OpenModel(form.folder)));
  }
  CheckBytes(model, factored, RestOfModel(budget), budget.bytes);
  EnsureMoments(*quantize.calibration, out, quantize.stop, progress);
  const fs::path moments = internal::MomentsPath(out);
  const std::vector<int32_t> ids = LoadMomentsTokens(moments);
  const int64_t count = std::min(kDamageTokens, std::ssize(ids));
  const CalibrationTokens tokens = {
      std::span(ids).first(static_cast<size_t>(count)),
      std::min(count, ReadMomentsHeader(moments).context)};
  const DamageFn damage = [&](const std::vector<LayerKind>& matrices,
                              const ReplaceFn& replace,
                              const ProgressFn& report) {
    return MeasureDamage(model, tokens, matrices, replace, report);
  };
  return ChooseBits(model, factored, RestOfModel(budget), budget.bytes, moments,
                    damage, watched);
}

// The folders whose factors some layers take.
std::vector<QuantizeOptions::Fit> FitsOf(const BitBudget& budget,
                                         const BitChoice& choice) {
  std::vector<QuantizeOptions::Fit> fits;
  for (size_t i = 0; i < budget.factored.size(); ++i) {
    QuantizeOptions::Fit fit = {budget.factored[i].folder, {}};
    for (const auto& [layer, which] : choice.factored_layers) {
      if (which == i) fit.layers.insert(layer);
    }
    if (!fit.layers.empty()) fits.push_back(std::move(fit));
  }
  return fits;
}

OpenedModel Mixed(const OpenedModel& model,
                  const std::vector<QuantizeOptions::Fit>& fits) {
  std::vector<FactoredLayers> factored;
  factored.reserve(fits.size());
  for (const auto& [folder, layers] : fits) {
    factored.push_back({OpenModel(folder), layers});
  }
  return MixModels(OpenModel(model.checkpoint.folder()), std::move(factored));
}

}  // namespace

PackRule RestOfModel(const BitBudget& budget) {
  return {&RowOf(NumberFormat::kInt8), budget.parts, {}, budget.refit_passes};
}

std::vector<FactoredForm> FormsOf(const std::vector<std::string>& folders) {
  std::vector<FactoredForm> forms;
  forms.reserve(folders.size());
  for (const std::string& folder : folders) {
    forms.push_back({folder, WeightsIdentity(folder)});
  }
  return forms;
}

bool IsChosenAndFinished(const OpenedModel& model, const BitBudget& budget,
                         const Calibration& calibration, const fs::path& out) {
  if (!IsFinished(out)) return false;
  const std::optional<Json> job = JobOf(out, Asked(budget, calibration.hash));
  return job && Journal(out, model.checkpoint.folder(), *job).finished();
}

std::optional<OpenedModel> ChooseBitsOnce(const OpenedModel& model,
                                          const BitBudget& budget,
                                          const fs::path& out,
                                          const ProgressFn& progress,
                                          QuantizeOptions* quantize) {
  Json asked = Asked(budget, quantize->calibration->hash);
  std::optional<BitChoice> choice = ChosenBefore(out, asked);
  if (!choice) choice = Choose(model, budget, out, progress, *quantize);
  asked["factored_layers"] = choice->factored_layers;
  quantize->choice = std::move(asked);
  quantize->rule = RestOfModel(budget);
  quantize->rule.others = choice->formats;
  quantize->fits = FitsOf(budget, *choice);
  if (quantize->fits.empty()) return std::nullopt;
  return Mixed(model, quantize->fits);
}

}  // namespace mobe
