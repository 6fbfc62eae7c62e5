// mobe report OUT
#include "eval/report.h"

#include <fmt/core.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/text_file.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/output_file.h"
#include "cli/progress_bar.h"
#include "eval/eval_table.h"
#include "mobe/mixed_model.h"

namespace mobe {
namespace {

struct ReportArguments {
  std::string folder;
  std::string original;
  std::string eval;
  std::string table;
  OutputFile out{"report.html"};
};

bool HoldsText(const std::string& file, const std::string& text) {
  std::error_code error;
  return std::filesystem::file_size(file, error) == text.size() &&
         ReadSmallFile(file, text.size()) == text;
}

void Run(const ReportArguments& arguments, const CommonOptions& common) {
  std::vector<std::string> folders = {arguments.folder};
  if (!arguments.original.empty()) folders.push_back(arguments.original);
  std::vector<std::string> inputs;
  for (const std::string& file : {arguments.eval, arguments.table}) {
    if (!file.empty()) inputs.push_back(file);
  }
  CheckOutputFile(arguments.out, kReportOutput, folders, inputs);
  std::vector<EvalResult> results;
  if (!arguments.eval.empty()) {
    results =
        ReadEvalJson(ParseJson(ReadTextFile(arguments.eval), arguments.eval),
                     arguments.eval);
  }
  std::optional<Comparison> comparison;
  if (!arguments.table.empty()) {
    comparison = ReadComparisonJson(
        ParseJson(ReadTextFile(arguments.table), arguments.table),
        arguments.table);
  }
  const OpenedModel model = OpenModel(arguments.folder);
  std::optional<OpenedModel> original;
  if (!arguments.original.empty()) {
    original = OpenModel(arguments.original);
    CheckNotQuantised(*original);
  }
  ReportData data;
  {
    ProgressBar bar(common);
    data =
        GatherReport(model, original ? &*original : nullptr, bar.AsFunction());
  }
  data.results = std::move(results);
  data.comparison = std::move(comparison);
  // Again: another command may have written it meanwhile.
  CheckOutputFile(arguments.out, kReportOutput, folders, inputs);
  const std::string page = ReportPage(data);
  if (HoldsText(arguments.out.path, page)) {
    PrintAlready(arguments.out.path);
  } else {
    WriteFileAtomically(arguments.out.path, page);
    Print("wrote {}\n", OneLine(arguments.out.path));
  }
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
  ExpectModel(command->add_option("out", arguments->folder,
                                  "folder of the factored or quantised model"));
  ExpectModel(
      command->add_option("--original", arguments->original,
                          "folder of the original, for its singular values"));
  command->add_option("--eval", arguments->eval,
                      "what mobe eval --json printed, to be shown, too");
  command->add_option("--table", arguments->table,
                      "what mobe table --json printed, to be shown, too");
  command->add_option("-o,--output", arguments->out.path, "HTML file to write")
      ->capture_default_str();
  AddForce(command, "the page", &arguments->out);
  AddCommonOptions(command, common, JsonOutput::kNo);
  command->callback([=] { Run(*arguments, *common); });
}

}  // namespace mobe
