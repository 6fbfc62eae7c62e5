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
#include "cli/print_quantized.h"
#include "cli/progress_bar.h"
#include "cli/size_options.h"
#include "cli/stop_signals.h"

namespace mobe {
namespace {

struct QuantizeArguments {
  std::string model;
  std::string out;
  PackOptions pack;
  CalibrateOptions calibrate;
  std::string moments;
  SizeOptions size;
  std::vector<std::string> factored;
  double shard_gigabytes = 5;
};

void CheckWays(const QuantizeArguments& options) {
  if (!options.size.given() && !options.factored.empty()) {
    Fail(ErrorKind::kUserInput,
         "--factored: only for --bytes or --bpw, which choose between forms");
  }
  CheckHasText(options.size, options.calibrate, options.moments);
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
      quantize.rule = *ToPackRule(options.pack, model.config.num_layers);
    } else {
      mixed = ChooseBitsOnce(model,
                             {.bytes = BytesOf(options.size, model),
                              .factored = FormsOf(options.factored),
                              .parts = PartsOf(options.pack),
                              .refit_passes = options.pack.refit_passes},
                             options.out, bar.AsFunction(), &quantize);
      if (mixed) quantize.mixed = &*mixed;
    }
    report = Quantize(model, options.out, quantize, bar.AsFunction());
  }
  PrintQuantized(options.out, std::move(report), quantize.choice,
                 MonotonicSeconds() - start, common);
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
  AddSizeOptions(bits, &options->size);
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
