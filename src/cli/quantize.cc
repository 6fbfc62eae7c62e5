// mobe quantize MODEL OUT --format int8
#include "compress/quantize.h"

#include "base/error.h"
#include "base/progress.h"
#include "cli/calibrate_options.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/pack_options.h"
#include "cli/progress_bar.h"
#include "cli/stop_signals.h"
#include "compress/recipe.h"

namespace mobe {
namespace {

struct QuantizeArguments {
  std::string model;
  std::string out;
  PackOptions pack;
  CalibrateOptions calibrate;
  std::string moments;
  double shard_gigabytes = 5;
};

void Run(const QuantizeArguments& options, const CommonOptions& common) {
  const double start = MonotonicSeconds();
  const OpenedModel model = OpenModel(options.model);
  QuantizeOptions quantize;
  quantize.rule = *ToPackRule(options.pack);
  quantize.shard_bytes = static_cast<int64_t>(options.shard_gigabytes * 1e9);
  if (!options.calibrate.file.empty()) {
    quantize.calibration =
        ToCalibration(options.calibrate, model, CalibrationScope::kAll);
  }
  if (!options.moments.empty()) {
    quantize.calibration = CalibrationFrom(options.moments, model);
  }
  quantize.stop = StopOnSignals();
  std::optional<QuantizeReport> report;
  {
    ProgressBar bar(common);
    report = Quantize(model, options.out, quantize, bar.AsFunction());
  }
  const bool already = !report;
  if (already) {
    const Recipe recipe = *ReadRecipe(options.out);
    report = {recipe.bytes_in, recipe.bytes_out, recipe.packed};
  }
  const PackedPart total = TotalOf(report->parts);
  if (common.json) {
    PrintJson({{"bytes_in", report->bytes_in},
               {"bytes_out", report->bytes_out},
               {"parts", PackedPartsJson(report->parts)},
               {"matrices", total.matrices},
               {"relative", total.loss.relative()},
               {"worst",
                {{"tensor", total.worst}, {"relative", total.worst_relative}}},
               {"already", already},
               {"seconds", MonotonicSeconds() - start}});
    return;
  }
  if (already) return PrintAlready(options.out);
  Print("{}: {} in place of {} ({:.1f}%), written in {}\n",
        OneLine(options.out),
        FormatBytes(static_cast<double>(report->bytes_out)),
        FormatBytes(static_cast<double>(report->bytes_in)),
        100.0 * static_cast<double>(report->bytes_out) /
            static_cast<double>(report->bytes_in),
        FormatDuration(MonotonicSeconds() - start));
  for (const PackedPart& part : report->parts) {
    Print("{}\n", OneLine(PackedPartText(part)));
  }
  Print("all: {} matrices, relative error {:.4f}\n", total.matrices,
        total.loss.relative());
}

}  // namespace

void AddQuantize(CLI::App& app, CommonOptions* common) {
  auto* command =
      app.add_subcommand("quantize", "store a model's matrices in few bits");
  auto options = std::make_shared<QuantizeArguments>();
  command->add_option("model", options->model, "model folder")->required();
  command->add_option("out", options->out, "new folder for the result")
      ->required();
  AddPackOptions(command, &options->pack)->required();
  AddCalibrateOptions(command, "matrices", &options->calibrate);
  command
      ->add_option("--moments", options->moments,
                   "file that mobe calibrate wrote, instead of --calibrate")
      ->excludes(command->get_option("--calibrate"));
  AddShardSize(command, &options->shard_gigabytes);
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([=] { Run(*options, *common); });
}

}  // namespace mobe
