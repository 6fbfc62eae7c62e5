// mobe quantize MODEL OUT --format int8, or --bytes 12GB, or --bpw 3.5
#include "compress/quantize.h"

#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/calibrate_options.h"
#include "cli/choose_bits.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/pack_options.h"
#include "cli/parse_bytes.h"
#include "cli/progress_bar.h"
#include "cli/stop_signals.h"
#include "compress/recipe.h"
#include "mobe/sizes.h"

namespace mobe {
namespace {

struct QuantizeArguments {
  std::string model;
  std::string out;
  PackOptions pack;
  CalibrateOptions calibrate;
  std::string moments;
  std::string bytes;
  double bits_per_weight = 0;
  std::vector<std::string> factored;
  double shard_gigabytes = 5;
};

int64_t BytesAsked(const QuantizeArguments& options, const OpenedModel& model) {
  if (!options.bytes.empty()) return ParseBytes("--bytes", options.bytes);
  const auto weights =
      static_cast<double>(CountParts(model, model.tensors).total());
  return static_cast<int64_t>(weights * options.bits_per_weight / 8);
}

void CheckWays(const QuantizeArguments& options) {
  const bool chooses = !options.bytes.empty() || options.bits_per_weight > 0;
  if (!chooses && !options.factored.empty()) {
    Fail(ErrorKind::kUserInput,
         "--factored: only for --bytes or --bpw, which choose between forms");
  }
  if (chooses && options.calibrate.file.empty() && options.moments.empty()) {
    Fail(ErrorKind::kUserInput,
         "--bytes and --bpw choose by what errors do on a text: give one by "
         "--calibrate, or --moments");
  }
}

void Run(const QuantizeArguments& options, const CommonOptions& common) {
  const double start = MonotonicSeconds();
  CheckWays(options);
  const OpenedModel model = OpenModel(options.model);
  QuantizeOptions quantize;
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
  std::optional<OpenedModel> mixed;
  {
    ProgressBar bar(common);
    if (!options.pack.format.empty()) {
      quantize.rule = *ToPackRule(options.pack);
    } else {
      mixed = ChooseBitsOnce(
          model,
          {BytesAsked(options, model), options.factored, PartsOf(options.pack)},
          options.out, bar.AsFunction(), &quantize);
      if (mixed) quantize.mixed = &*mixed;
    }
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
  if (!options.factored.empty()) {
    Print("layers that take factors: {}\n",
          quantize.choice.at("factored_layers").size());
  }
}

}  // namespace

void AddQuantize(CLI::App& app, CommonOptions* common) {
  auto* command =
      app.add_subcommand("quantize", "store a model's matrices in few bits");
  auto options = std::make_shared<QuantizeArguments>();
  ExpectModel(command->add_option("model", options->model, "model folder"));
  command->add_option("out", options->out, "new folder for the result")
      ->required();
  CLI::Option_group* bits = command->add_option_group("bits");
  AddPackOptions(command, bits, &options->pack);
  ExpectForm(
      bits->add_option("--bytes", options->bytes,
                       "size to keep to, as 12GB: each layer's experts take "
                       "the bits that change predictions least, all else 8"),
      [](const std::string& text) { ParseBytes("--bytes", text); });
  ExpectNumber(
      bits->add_option("--bpw", options->bits_per_weight,
                       "the same in bits for each of the model's weights, as "
                       "3.5"),
      "a number above 0 and at most 16",
      [](double value) { return value > 0 && value <= 16; });
  bits->require_option(1);
  command
      ->add_option("--factored", options->factored,
                   "the model as mobe compress made it, whose factors a layer "
                   "takes where they suit it better; again: another one")
      ->allow_extra_args(false);
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
