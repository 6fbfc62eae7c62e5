// The table of subcommands, in the order that --help shows.
#pragma once

#include "cli/command.h"

namespace mobe {

void AddCompress(CLI::App& app, CommonOptions* common);
void AddMerge(CLI::App& app, CommonOptions* common);
void AddCalibrate(CLI::App& app, CommonOptions* common);
void AddQuantize(CLI::App& app, CommonOptions* common);
void AddVerify(CLI::App& app, CommonOptions* common);
void AddReconstruct(CLI::App& app, CommonOptions* common);
void AddInspect(CLI::App& app, CommonOptions* common);
void AddGenerate(CLI::App& app, CommonOptions* common);
void AddChat(CLI::App& app, CommonOptions* common);
void AddServe(CLI::App& app, CommonOptions* common);
void AddLogits(CLI::App& app, CommonOptions* common);
void AddPerplexity(CLI::App& app, CommonOptions* common);
void AddCompare(CLI::App& app, CommonOptions* common);
void AddTable(CLI::App& app, CommonOptions* common);
void AddEval(CLI::App& app, CommonOptions* common);
void AddReport(CLI::App& app, CommonOptions* common);
void AddBench(CLI::App& app, CommonOptions* common);
void AddDoctor(CLI::App& app, CommonOptions* common);
void AddManual(CLI::App& app, CommonOptions* common);
void AddCompletions(CLI::App& app, CommonOptions* common);

inline constexpr AddCommand kCommands[] = {
    AddCompress,    AddMerge,      AddCalibrate, AddQuantize, AddVerify,
    AddReconstruct, AddInspect,    AddGenerate,  AddChat,     AddServe,
    AddLogits,      AddPerplexity, AddCompare,   AddTable,    AddEval,
    AddReport,      AddBench,      AddDoctor,    AddManual,   AddCompletions,
};

}  // namespace mobe
