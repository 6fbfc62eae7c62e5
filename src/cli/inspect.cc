// mobe inspect MODEL
#include <fmt/ranges.h>

#include <cmath>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/progress.h"
#include "base/visible.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "compress/recipe.h"
#include "compress/worst_expert.h"
#include "mobe/open_model.h"
#include "mobe/operations.h"
#include "mobe/packed_model.h"
#include "mobe/parts.h"
#include "mobe/sizes.h"

namespace mobe {
namespace {

// Those that are stored in FP8.
int64_t CountFp8(const OpenedModel& model) {
  int64_t parameters = 0;
  for (const TensorSpec& spec : model.tensors) {
    const TensorView& tensor = model.checkpoint.At(spec.name);
    if (tensor.format() == NumberFormat::kF8) parameters += tensor.elements();
  }
  return parameters;
}

// How the matrices of a part that can be quantised are stored.
struct StoredPart {
  const char* name;
  std::set<std::string> formats;  // "bf16", or several
  int64_t parameters = 0;
  int64_t bytes = 0;  // with scales

  double bits() const {
    return 8 * static_cast<double>(bytes) / static_cast<double>(parameters);
  }
};
std::vector<StoredPart> PartsOf(const OpenedModel& model) {
  std::vector<StoredPart> parts;
  for (const QuantPart& part : QuantParts()) {
    StoredPart stored{part.name, {}};
    for (const TensorSpec& spec : model.tensors) {
      if (QuantPartOf(spec) != &part) continue;
      const TensorView& tensor = model.checkpoint.At(spec.name);
      stored.formats.insert(RowOf(tensor.format()).name);
      stored.parameters += tensor.elements();
      stored.bytes += static_cast<int64_t>(tensor.data.size());
      if (tensor.scales != nullptr) {
        stored.bytes += static_cast<int64_t>(tensor.scales->data.size());
      }
    }
    if (stored.parameters > 0) parts.push_back(std::move(stored));
  }
  return parts;
}

// A plain model may be a baseline or a reconstruction, which have recipes, or
// hold some other tool's file of that name.
std::optional<Recipe> RecipeIn(const std::string& folder, bool compressed) {
  try {
    return ReadRecipe(folder);
  } catch (const Error& e) {
    if (compressed || e.kind() != ErrorKind::kCorruptFile) throw;
    return std::nullopt;
  }
}

void RunInspect(const std::string& folder, const CommonOptions& common) {
  const OpenedModel model = OpenModel(folder);
  const bool compressed = model.mobe || HasPacked(model);
  const std::optional<Recipe> recipe = RecipeIn(folder, compressed);
  const MatrixReport* worst = recipe ? FindWorst(recipe->matrices) : nullptr;
  const ModelConfig& config = model.config;
  const PartSizes stored = CountParts(model, model.tensors);
  const PartSizes plain = CountParts(model, ListTensors(*model.family, config));
  const Ratios ratios = RatiosOf(stored, plain);
  const Operations operations = CountOperations(model);
  const int64_t fp8 = CountFp8(model);
  const auto moe_layers = std::ssize(config.MoeLayers());
  if (common.json) {
    Json json = {{"family", model.family->model_type},
                 {"runs", model.family->runs},
                 {"layers", config.num_layers},
                 {"moe_layers", moe_layers},
                 {"hidden_size", config.hidden_size},
                 {"vocab_size", config.vocab_size},
                 {"experts", config.num_experts},
                 {"experts_per_token", config.experts_per_token},
                 {"expert_size", config.expert_size},
                 {"bytes", model.checkpoint.bytes()},
                 {"ratio_experts", ratios.experts},
                 {"ratio_model", ratios.model},
                 {"operations_per_token", nullptr},
                 {"mobe", nullptr},
                 {"recipe", nullptr}};
    if (model.family->runs) {
      json["operations_per_token"] = {
          {"built", std::llround(operations.built)},
          {"fused", std::llround(operations.fused)}};
    }
    if (recipe) {
      json["recipe"] = {{"mobe", recipe->mobe},
                        {"source", recipe->source},
                        {"command", recipe->options.value("command", Json())},
                        {"mse_scaled_mean", recipe->mean_mse_scaled()},
                        {"worst_expert", WorstJson(worst)},
                        {"parts", PackedPartsJson(recipe->packed)}};
    }
    for (const PartRow& part : kParts) {
      json["parameters"][part.name] = stored.*part.size;
    }
    json["parameters"]["total"] = stored.total();
    json["fp8_parameters"] = fp8;
    for (const StoredPart& part : PartsOf(model)) {
      json["formats"][part.name] = part.formats;
      json["bits_per_weight"][part.name] = part.bits();
    }
    if (model.mobe) {
      json["mobe"] = DescribeFormat(*model.mobe);
    }
    PrintJson(json);
    return;
  }
  Print("{}: {}\n", OneLine(folder), model.family->model_type);
  Print("{} layers ({} with experts), hidden {}{}\n", config.num_layers,
        moe_layers, config.hidden_size,
        model.family->runs ? ", vocabulary " + FormatCount(config.vocab_size)
                           : "");
  if (!model.family->runs) {
    Print("{} experts of {}\n", config.num_experts, config.expert_size);
    Print("runs: no (compress, verify, reconstruct and report only)\n");
  } else {
    Print("{} experts of {}, {} for each token\n", config.num_experts,
          config.expert_size, config.experts_per_token);
  }
  for (const PartRow& part : kParts) {
    if (stored.*part.size == 0) continue;
    Print("  {:10} {:>16} parameters\n", part.name,
          FormatCount(stored.*part.size));
  }
  Print("  {:10} {:>16} parameters, {}\n", "total", FormatCount(stored.total()),
        FormatBytes(static_cast<double>(model.checkpoint.bytes())));
  if (HasPacked(model)) {
    Print("stored by part:\n");
    for (const StoredPart& part : PartsOf(model)) {
      Print("  {:10} {:>16} parameters in {}, {:.2f} bits each\n", part.name,
            FormatCount(part.parameters),
            fmt::format("{}", fmt::join(part.formats, "/")), part.bits());
    }
  }
  if (fp8 > 0) Print("  {:10} {:>16} of them\n", "in FP8", FormatCount(fp8));
  if (model.family->runs) {
    Print("  a token takes {:.3g} million multiplications in its experts{}\n",
          operations.built / 1e6,
          model.mobe ? fmt::format(" built, {:.3g} million fused",
                                   operations.fused / 1e6)
                     : "");
  }
  if (model.mobe) {
    Print("MoBE: {}\n", SummarizeFormat(*model.mobe));
    Print("expert weights kept: {:.1f}%   whole model: {:.1f}%\n",
          100 * ratios.experts, 100 * ratios.model);
  }
  if (recipe) {
    const Json command = recipe->options.value("command", Json());
    Print(
        "recipe: made from {} by mobe {}{}\n", OneLine(recipe->source),
        OneLine(recipe->mobe),
        command.is_string() ? ", " + OneLine(command.get<std::string>()) : "");
    if (worst != nullptr) {
      Print("mean scaled MSE {:.5f}{}\n{}\n", recipe->mean_mse_scaled(),
            recipe->packed.empty() ? "" : " before quantising",
            WorstText(*worst));
    }
    for (const PackedPart& part : recipe->packed) {
      Print("{}\n", OneLine(PackedPartText(part)));
    }
  }
  if (!compressed) Print("not compressed\n");
}

}  // namespace

void AddInspect(CLI::App& app, CommonOptions* common) {
  auto* command =
      app.add_subcommand("inspect", "tell what a model folder holds");
  auto folder = std::make_shared<std::string>();
  ExpectModel(command->add_option("model", *folder, "model folder"));
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([=] { RunInspect(*folder, *common); });
}

}  // namespace mobe
