// mobe report OUT
#include "eval/report.h"

#include <fmt/core.h>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/output_file.h"
#include "cli/progress_bar.h"

namespace mobe {
namespace {

struct ReportArguments {
  std::string folder;
  std::string original;
  OutputFile out{"report.html"};
};

void Run(const ReportArguments& arguments, const CommonOptions& common) {
  std::vector<std::string> folders = {arguments.folder};
  if (!arguments.original.empty()) folders.push_back(arguments.original);
  CheckOutputFile(arguments.out, kReportOutput, folders, {});
  const OpenedModel model = OpenModel(arguments.folder);
  std::optional<OpenedModel> original;
  if (!arguments.original.empty()) original = OpenModel(arguments.original);
  ReportData data;
  {
    ProgressBar bar(common);
    data =
        GatherReport(model, original ? &*original : nullptr, bar.AsFunction());
  }
  // Again: another command may have written it meanwhile.
  CheckOutputFile(arguments.out, kReportOutput, folders, {});
  WriteFileAtomically(arguments.out.path, ReportPage(data));
  Print("wrote {}\n", OneLine(arguments.out.path));
  const std::string after = FormatBytes(static_cast<double>(data.bytes_out));
  Print("tensors: {}{}\n", after,
        data.bytes_in == 0
            ? ""
            : fmt::format(" in place of {}",
                          FormatBytes(static_cast<double>(data.bytes_in))));
  for (const PackedPart& part : data.packed) {
    Print("{}\n", OneLine(PackedPartText(part)));
  }
}

}  // namespace

void AddReport(CLI::App& app, CommonOptions* common) {
  auto* command = app.add_subcommand(
      "report", "write a page on how a compressed model came out");
  auto arguments = std::make_shared<ReportArguments>();
  command
      ->add_option("out", arguments->folder,
                   "folder of the factored or quantised model")
      ->required();
  command->add_option("--original", arguments->original,
                      "folder of the original, for its singular values");
  command->add_option("-o,--output", arguments->out.path, "HTML file to write")
      ->capture_default_str();
  AddForce(command, "the page", &arguments->out);
  AddCommonOptions(command, common, JsonOutput::kNo);
  command->callback([=] { Run(*arguments, *common); });
}

}  // namespace mobe
