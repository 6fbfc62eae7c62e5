// mobe reconstruct MOBE OUT
#include "compress/reconstruct.h"

#include "base/error.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/progress_bar.h"
#include "cli/stop_signals.h"
#include "mobe/modeling_file.h"

namespace mobe {

void AddReconstruct(CLI::App& app, CommonOptions* common) {
  auto* command = app.add_subcommand(
      "reconstruct", "write a factored model as a standard checkpoint");
  auto folder = std::make_shared<std::string>();
  auto out = std::make_shared<std::string>();
  auto shard_gigabytes = std::make_shared<double>(5);
  ExpectModel(
      command->add_option("mobe", *folder, "folder of the factored model"));
  command->add_option("out", *out, "new folder for the result")->required();
  AddShardSize(command, shard_gigabytes.get());
  AddCommonOptions(command, common, JsonOutput::kNo);
  command->callback([=] {
    const double start = MonotonicSeconds();
    const OpenedModel model = OpenModel(*folder);
    bool written = false;
    {
      ProgressBar bar(*common);
      written =
          Reconstruct(model, *out, static_cast<int64_t>(*shard_gigabytes * 1e9),
                      bar.AsFunction(), StopOnSignals());
    }
    if (!written) return PrintAlready(*out);
    Print("{}: written in {}\n", OneLine(*out),
          FormatDuration(MonotonicSeconds() - start));
    if (NeedsOwnCode(model.checkpoint.config())) {
      Print(
          "transformers asks for trust_remote_code=True: as the original, it "
          "has code of its own (auto_map in config.json)\n");
    }
  });
}

}  // namespace mobe
