#include "cli/eval_options.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "cli/expect.h"
#include "cli/run_options.h"

namespace mobe {

void AddEvalOptions(CLI::App* command, EvalCommandOptions* options,
                    CommonOptions* common) {
  command->add_option("file", options->file, "text to read, UTF-8")->required();
  AddVerbose(command, common);
  AddWindowOptions(command, options, common);
}

void AddWindowOptions(CLI::App* command, EvalCommandOptions* options,
                      CommonOptions* common) {
  std::vector<std::string> names;
  for (const Protocol& protocol : Protocols()) {
    names.emplace_back(protocol.name);
  }
  options->protocol = names.front();
  ExpectOneOf(command->add_option(
                  "--protocol", options->protocol,
                  "windows of the text: hf (all tokens; default) or llama.cpp "
                  "(the second half of each)"),
              names);
  ExpectWhole(command->add_option("--max-tokens", options->max_tokens,
                                  "tokens of the text to read (default: all)"),
              1);
  // 3 is the least that both protocols predict a token with.
  ExpectWhole(command->add_option(
                  "--context", options->context,
                  "tokens of a window (default: the protocol's, 2048 or 512, "
                  "or the model's limit if lower)"),
              3);
  AddRunOptions(command, &options->load);
  AddCommonOptions(command, common, JsonOutput::kYes);
}

EvalOptions ToEvalOptions(const EvalCommandOptions& options,
                          ProgressFn progress) {
  EvalOptions eval;
  eval.protocol = *std::find_if(
      Protocols().begin(), Protocols().end(),
      [&](const Protocol& p) { return p.name == options.protocol; });
  eval.context = options.context;
  eval.progress = std::move(progress);
  return eval;
}

void AddRunKeys(const EvalOptions& options, const EvalRun& run, Json* json) {
  json->update({{"tokens", run.tokens},
                {"protocol", options.protocol.name},
                {"context", run.context},
                {"seconds", run.seconds},
                {"tokens_per_second", run.TokensPerSecond()}});
}

std::string RunText(const EvalOptions& options, const EvalRun& run) {
  return fmt::format(
      "{} tokens in {:.1f} s ({:.0f} tok/s), protocol {}, context {}",
      run.tokens, run.seconds, run.TokensPerSecond(), options.protocol.name,
      run.context);
}

}  // namespace mobe
