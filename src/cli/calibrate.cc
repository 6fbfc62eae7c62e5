// mobe calibrate MODEL TEXT FILE
#include <fmt/core.h>

#include <memory>

#include "base/error.h"
#include "cli/calibrate_options.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/output_file.h"
#include "cli/progress_bar.h"
#include "cli/stop_signals.h"
#include "mobe/model_identity.h"
#include "mobe/moments_file.h"

namespace mobe {
namespace {

struct CalibrateArguments {
  std::string model;
  CalibrateOptions text;
  OutputFile file;
};

// Whether the same command wrote the file; what is damaged counts for nothing.
bool IsMadeBefore(const std::string& file, const Calibration& calibration,
                  const OpenedModel& model) {
  try {
    const MomentsHeader header = ReadMomentsHeader(file);
    return header.hash == calibration.hash &&
           header.model == WeightsIdentity(model.checkpoint.folder());
  } catch (const Error&) {
    return false;
  }
}

void Run(const CalibrateArguments& arguments, const CommonOptions& common) {
  CheckOutputFile(arguments.file, kMomentsOutput, {arguments.model},
                  {arguments.text.file});
  const OpenedModel model = OpenModel(arguments.model);
  const Calibration calibration =
      ToCalibration(arguments.text, model, CalibrationScope::kAll);
  const bool already = IsMadeBefore(arguments.file.path, calibration, model);
  if (!already) {
    ProgressBar bar(common);
    const ProgressFn show = bar.AsFunction();
    const StopFn stop = StopOnSignals();
    calibration.collect(arguments.file.path, [&](const ProgressEvent& event) {
      if (stop()) throw Stopped("stopped; the same command begins anew");
      show(event);
    });
  }
  if (common.json) {
    PrintJson({{"tokens", calibration.tokens},
               {"hash", calibration.hash},
               {"already", already}});
    return;
  }
  if (already) PrintAlready(arguments.file.path);
  Print("{} tokens, hash {}\n", calibration.tokens, calibration.hash);
}

}  // namespace

void AddCalibrate(CLI::App& app, CommonOptions* common) {
  CLI::App* command = app.add_subcommand(
      "calibrate", "write what a model's experts read when it runs on a text");
  auto arguments = std::make_shared<CalibrateArguments>();
  ExpectModel(command->add_option("model", arguments->model, "model folder"));
  command
      ->add_option("text", arguments->text.file,
                   "text file; random: token ids at random, no data")
      ->required();
  command->add_option("file", arguments->file.path, "safetensors file to write")
      ->required();
  AddForce(command, "the result", &arguments->file);
  AddTokenOptions(command, "--max-tokens", "--context", &arguments->text);
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([arguments, common] { Run(*arguments, *common); });
}

}  // namespace mobe
