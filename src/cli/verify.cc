// mobe verify OUT --against MODEL
#include "compress/verify.h"

#include <fmt/core.h>

#include "base/error.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/progress_bar.h"
#include "compress/worst_expert.h"
#include "mobe/mixed_model.h"

namespace mobe {
namespace {

VerifyReport VerifyFolders(const std::string& folder,
                           const std::string& original,
                           const CommonOptions& common) {
  if (original.empty()) return VerifyFiles(folder);
  const OpenedModel base = OpenModel(original);
  CheckNotQuantised(base);
  if (base.mobe) {
    Fail(ErrorKind::kUserInput,
         "{}: a factored model; --against wants the original", original);
  }
  ProgressBar bar(common);
  try {
    return Verify(folder, base, bar.AsFunction());
  } catch (const Error& e) {
    // What can't be opened is at fault; what is wrong with us is not.
    if (e.kind() == ErrorKind::kInternal ||
        e.kind() == ErrorKind::kOutOfMemory ||
        e.kind() == ErrorKind::kDiskFull) {
      throw;
    }
    VerifyReport report;
    report.faults.emplace_back(e.what());
    return report;
  }
}

void Run(const std::string& folder, const std::string& original,
         const CommonOptions& common) {
  const VerifyReport report = VerifyFolders(folder, original, common);
  const MatrixReport* worst = FindWorst(report.matrices);
  const PackedPart packed = TotalOf(report.packed);
  if (common.json) {
    Json json = {{"ok", report.faults.empty()},
                 {"faults", report.faults},
                 {"tensors_equal", report.tensors_equal},
                 {"parts", PackedPartsJson(report.packed)},
                 {"tensors_packed", packed.matrices},
                 {"worst_packed", packed.worst_relative},
                 {"files_checked", nullptr},
                 {"worst_expert", WorstJson(worst)},
                 {"matrices", MatricesJson(report.matrices)}};
    if (report.files_checked) json["files_checked"] = *report.files_checked;
    PrintJson(json);
  } else {
    for (const MatrixReport& matrix : report.matrices) {
      Print(
          "layer {:3} {:4}  relative error {:.4f}  worst expert {:.4f} "
          "({})\n",
          matrix.layer, matrix.kind, matrix.error.relative,
          matrix.error.worst_expert, matrix.error.worst_expert_index);
    }
    for (const std::string& fault : report.faults) {
      Print("fault: {}\n", OneLine(fault));
    }
    if (worst != nullptr) Print("{}\n", WorstText(*worst));
    for (const PackedPart& part : report.packed) {
      Print("{}\n", OneLine(PackedPartText(part)));
    }
    if (report.files_checked) {
      Print("{} files compared with their SHA-256 in recipe.json\n",
            *report.files_checked);
    } else {
      Print("no recipe.json to compare checksums with\n");
    }
    const char* verdict = report.faults.empty() ? "ok" : "FAILED";
    const char* plural = report.faults.size() == 1 ? "" : "s";
    if (original.empty()) {
      Print("{}: not compared with an original, {} fault{}\n", verdict,
            report.faults.size(), plural);
    } else {
      Print(
          "{}: {} tensors equal the original, {} matrices measured, {} "
          "fault{}\n",
          verdict, report.tensors_equal, report.matrices.size(),
          report.faults.size(), plural);
    }
  }
  if (!report.faults.empty()) throw Failed();
}

}  // namespace

void AddVerify(CLI::App& app, CommonOptions* common) {
  auto* command =
      app.add_subcommand("verify", "check a compressed or reconstructed model");
  auto folder = std::make_shared<std::string>();
  auto original = std::make_shared<std::string>();
  ExpectModel(command->add_option("out", *folder, "folder to check"));
  ExpectModel(
      command->add_option("--against", *original,
                          "folder of the original (default: check only the "
                          "SHA-256 of each file in recipe.json)"));
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([=] { Run(*folder, *original, *common); });
}

}  // namespace mobe
