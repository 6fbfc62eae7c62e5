#include "cli/compress_arguments.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/command.h"
#include "cli/expect.h"
#include "compress/presets.h"
#include "fit/devices.h"
#include "fit/method.h"

namespace mobe {
namespace {

struct LayerRange {
  int64_t first = 0;
  int64_t last = INT64_MAX;
};

// "3" or "0-5", both inclusive.
LayerRange ParseLayers(const std::string& text) {
  const size_t dash = text.find('-');
  const auto number = [&](std::string_view part) {
    int64_t value = -1;
    const auto [end, error] =
        std::from_chars(part.data(), part.data() + part.size(), value);
    if (error != std::errc() || end != part.data() + part.size() || value < 0) {
      Fail(ErrorKind::kUserInput,
           "--layers {}: expected a layer (3) or a range (0-5)", text);
    }
    return value;
  };
  const std::string_view view = text;
  LayerRange range;
  range.first = number(view.substr(0, dash));
  range.last =
      dash == std::string::npos ? range.first : number(view.substr(dash + 1));
  if (range.first > range.last) {
    Fail(ErrorKind::kUserInput, "--layers {}: the range is empty", text);
  }
  return range;
}

// "gate,up,down" or fewer of them, in any order.
std::vector<const MatrixKind*> ParseKinds(const std::string& text) {
  std::vector<const MatrixKind*> kinds;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    const auto* kind = KindFromName(text.substr(at, comma - at));
    if (kind == nullptr || std::ranges::count(kinds, kind) != 0) {
      Fail(ErrorKind::kUserInput,
           "--kinds {}: expected some of gate, up and down, as gate,up", text);
    }
    kinds.push_back(kind);
    at = comma + 1;
  }
  return kinds;
}

}  // namespace

CompressOptions OptionsOf(const CompressArguments& arguments,
                          const OpenedModel& model, int place) {
  CompressOptions options;
  if (!arguments.bases.empty()) options.num_bases = arguments.bases.front();
  if (arguments.bases.size() > 1 && !arguments.size.given()) {
    Fail(ErrorKind::kUserInput,
         "--bases: several numbers are for --bytes and --bpw, which choose "
         "among their fits; give one");
  }
  if (arguments.ratio) options.ratio = *arguments.ratio;
  options.rank = arguments.rank;
  options.basis_rank = arguments.basis_rank.value_or(0);
  const bool automatic = arguments.split == "auto";
  if (automatic) options.split = Split::kAuto;
  if (automatic && (options.num_bases || options.rank || arguments.basis_rank ||
                    arguments.method != "mobe")) {
    Fail(ErrorKind::kUserInput,
         "--split auto chooses bases and ranks of --method mobe: leave out "
         "--bases, --rank, --basis-rank and --method, or the split");
  }
  options.kinds = ParseKinds(arguments.kinds ? *arguments.kinds
                             : automatic     ? "gate,up,down"
                                             : "gate,up");
  options.max_alphas = arguments.alphas.value_or(0);
  if (arguments.groups) options.groups = *arguments.groups;
  if (arguments.activation) {
    options.activation = *ActivationFromName(*arguments.activation);
  }
  if (arguments.size.given()) {
    // What few bits take best (docs/fit.md).
    if (!options.num_bases) {
      options.num_bases = std::max<int64_t>(model.config.num_experts / 10, 1);
    }
    if (!arguments.activation) options.activation = Activation::kIdentity;
  }
  UsePreset(model,
            {options.num_bases || arguments.ratio, arguments.groups.has_value(),
             arguments.activation || arguments.size.given()},
            &options);
  options.solver = FindMethod(arguments.solver);
  if (arguments.method == "mobe") {
    const bool fits_here =
        arguments.device == "auto" && !options.solver->has_devices;
    options.devices = FindDevices(fits_here ? "cpu" : arguments.device, place);
  }
  options.seed = arguments.seed;
  options.start = arguments.start;
  if (!arguments.layers.empty()) {
    const LayerRange range = ParseLayers(arguments.layers);
    options.first_layer = range.first;
    options.last_layer = range.last;
    if (range.last != INT64_MAX && range.last >= model.config.num_layers) {
      Fail(ErrorKind::kUserInput, "--layers {}: the model has layers 0 to {}",
           arguments.layers, model.config.num_layers - 1);
    }
  }
  if (!arguments.budget.empty()) options.budget = ParseBudget(arguments.budget);
  if (!arguments.passes.empty()) options.budget = ParsePasses(arguments.passes);
  if (!arguments.time.empty()) options.budget = ParseTime(arguments.time);
  if (!arguments.shard.empty()) options.share = ParseShare(arguments.shard);
  options.pack = ToPackRule(arguments.pack, model.config.num_layers);
  if (!arguments.calibrate.file.empty()) {
    options.calibration = ToCalibration(arguments.calibrate, model,
                                        options.pack || arguments.size.given()
                                            ? CalibrationScope::kAll
                                            : CalibrationScope::kExperts);
  }
  if (!arguments.moments.empty()) {
    options.calibration = CalibrationFrom(arguments.moments, model);
  }
  options.keep_fp8 = arguments.keep_fp8;
  options.shard_bytes = static_cast<int64_t>(arguments.shard_gigabytes * 1e9);
  return options;
}

void AddRecipe(CLI::App* recipe, CompressArguments* arguments) {
  ExpectForm(
      recipe->add_option("--kinds", arguments->kinds,
                         "matrices to factor: some of gate,up,down (default: "
                         "gate,up; all with --split auto)"),
      ParseKinds);
  const auto add_count = [recipe](const char* name, auto* value,
                                  const char* help) {
    return ExpectWhole(recipe->add_option(name, *value, help), 1);
  };
  auto* bases = ExpectWhole(
      recipe
          ->add_option("--bases", arguments->bases,
                       "number of bases of each layer and matrix kind; with "
                       "--bytes also several, as 6,13: a fit for each")
          ->delimiter(',')
          ->allow_extra_args(false),
      1);
  ExpectNumber(recipe
                   ->add_option("--ratio", arguments->ratio,
                                "share of the expert weights to keep (default: "
                                "the bases of the model's preset, or 0.75)")
                   ->excludes(bases),
               "a number above 0 and below 1",
               [](double ratio) { return ratio > 0 && ratio < 1; });
  add_count("--rank", &arguments->rank,
            "rank of the factors (default: the experts' size)");
  add_count("--basis-rank", &arguments->basis_rank,
            "store each basis as a product of this rank (default: whole)");
  ExpectOneOf(
      recipe->add_option("--split", arguments->split,
                         "of the ratio over layers and kinds: even, or auto, "
                         "by what an error of each does to the predictions"),
      {"even", "auto"})
      ->capture_default_str();
  add_count("--alphas", &arguments->alphas,
            "bases that one expert may use (default: all)");
  add_count("--groups", &arguments->groups,
            "groups of experts that share no bases, in each layer; the number "
            "of bases is that of all groups (default: the preset's, or 1)");
  ExpectOneOf(
      recipe->add_option("--activation", arguments->activation,
                         "function between bases and A: silu, tanh or identity "
                         "(default: the preset's, or silu)"),
      {"silu", "tanh", "identity"});
  ExpectForm(recipe->add_option("--layers", arguments->layers,
                                "layers to factor, as 3 or 0-5 (default: all)"),
             ParseLayers);
  std::vector<std::string> solvers;
  for (const Method* solver : Solvers()) solvers.emplace_back(solver->name);
  ExpectOneOf(recipe->add_option("--solver", arguments->solver,
                                 "fast, or the published algorithm"),
              solvers)
      ->capture_default_str();
  auto* passes =
      ExpectForm(recipe->add_option("--passes", arguments->passes,
                                    "passes of each matrix (default: 500)"),
                 ParsePasses);
  auto* time =
      ExpectForm(recipe
                     ->add_option("--time", arguments->time,
                                  "time of the whole job (90s, 10m, 2h)")
                     ->excludes(passes),
                 ParseTime);
  ExpectForm(recipe
                 ->add_option("--budget", arguments->budget,
                              "either: passes (500) or a time (2h)")
                 ->excludes(passes)
                 ->excludes(time),
             ParseBudget);
  ExpectWhole(recipe->add_option("--seed", arguments->seed, "seed of the start")
                  ->capture_default_str(),
              0, UINT64_MAX);
  AddShardSize(recipe, &arguments->shard_gigabytes);
  recipe->add_flag("--keep-fp8", arguments->keep_fp8,
                   "leave FP8 what is not factored (default: all BF16)");
  AddPackOptions(recipe, recipe, &arguments->pack);
  recipe->add_option("--start", arguments->start,
                     "safetensors file of starts for --solver reference");
  AddCalibrateOptions(recipe, "the experts", &arguments->calibrate);
  recipe
      ->add_option("--moments", arguments->moments,
                   "file that mobe calibrate wrote, instead of --calibrate")
      ->excludes(recipe->get_option("--calibrate"));
}

}  // namespace mobe
