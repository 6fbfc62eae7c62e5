// mobe quantize MODEL OUT --format int8
#include "compress/quantize.h"

#include <fmt/ranges.h>

#include "base/error.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/progress_bar.h"
#include "cli/stop_signals.h"

namespace mobe {
namespace {

struct Options {
  std::string model;
  std::string out;
  std::string format;
  std::vector<std::string> parts;
  double shard_gigabytes = 5;
};

std::vector<std::string> PackedNames() {
  std::vector<std::string> names;
  for (const FormatRow& row : Formats()) {
    if (row.packed()) names.emplace_back(row.name);
  }
  return names;
}

std::vector<std::string> PartNames() {
  std::vector<std::string> names;
  for (const QuantPart& part : QuantParts()) names.emplace_back(part.name);
  return names;
}

void Run(const Options& options, const CommonOptions& common) {
  const double start = MonotonicSeconds();
  const OpenedModel model = OpenModel(options.model);
  QuantizeOptions quantize;
  quantize.format = FormatFromName(options.format);
  for (const std::string& name : options.parts) {
    quantize.parts.push_back(QuantPartFromName(name));
  }
  quantize.shard_bytes = static_cast<int64_t>(options.shard_gigabytes * 1e9);
  quantize.stop = StopOnSignals();
  std::optional<QuantizeReport> report;
  {
    ProgressBar bar(common);
    report = Quantize(model, options.out, quantize, bar.AsFunction());
  }
  if (!report) return PrintAlready(options.out);
  if (common.json) {
    PrintJson({{"bytes_in", report->bytes_in},
               {"bytes_out", report->bytes_out},
               {"matrices", report->matrices},
               {"relative", report->error},
               {"worst",
                {{"tensor", report->worst}, {"relative", report->worst_error}}},
               {"seconds", MonotonicSeconds() - start}});
    return;
  }
  Print("{}: {} in place of {} ({:.1f}%), written in {}\n",
        OneLine(options.out),
        FormatBytes(static_cast<double>(report->bytes_out)),
        FormatBytes(static_cast<double>(report->bytes_in)),
        100.0 * static_cast<double>(report->bytes_out) /
            static_cast<double>(report->bytes_in),
        FormatDuration(MonotonicSeconds() - start));
  Print("{} matrices, relative error {:.4f}; worst {:.4f}, {}\n",
        report->matrices, report->error, report->worst_error,
        OneLine(report->worst));
}

}  // namespace

void AddQuantize(CLI::App& app, CommonOptions* common) {
  auto* command =
      app.add_subcommand("quantize", "store a model's matrices in few bits");
  auto options = std::make_shared<Options>();
  command->add_option("model", options->model, "model folder")->required();
  command->add_option("out", options->out, "new folder for the result")
      ->required();
  command->add_option("--format", options->format, "number format")
      ->required()
      ->check(CLI::IsMember(PackedNames()));
  command
      ->add_option("--parts", options->parts,
                   "parts to quantise; default: all, embedding and head in 8 "
                   "bits. Bases have no form of fewer than 8")
      ->delimiter(',')
      ->check(CLI::IsMember(PartNames()));
  AddShardSize(command, &options->shard_gigabytes);
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([=] { Run(*options, *common); });
}

}  // namespace mobe
