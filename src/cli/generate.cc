// mobe generate: continues a text.
#include "model/generate.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/text_file.h"
#include "cli/commands.h"
#include "cli/generate_options.h"
#include "cli/run_options.h"

namespace mobe {
namespace {

struct GenerateArguments {
  std::string model;
  std::string prompt;
  std::string prompt_file;
  LoadOptions load;
  GenerateOptions generate;
};

double PerSecond(double count, double seconds) {
  return seconds > 0 ? count / seconds : 0;
}

void Run(const GenerateArguments& options, const CommonOptions& common) {
  const Model model = Model::Load(options.model, options.load);
  const Tokenizer tokenizer = Tokenizer::Load(options.model);
  const std::string prompt = options.prompt_file.empty()
                                 ? options.prompt
                                 : ReadTextFile(options.prompt_file);
  std::vector<int32_t> ids = tokenizer.affixes().before;
  std::ranges::copy(tokenizer.Encode(prompt), std::back_inserter(ids));
  std::string text;
  const GenerateResult result = Generate(
      model, tokenizer, ids, options.generate, [&](std::string_view piece) {
        text += piece;
        if (!common.json) PrintAnswer(piece);
      });
  const double prefill_rate = PerSecond(
      static_cast<double>(result.prompt_tokens), result.prefill_seconds);
  const double decode_rate =
      PerSecond(static_cast<double>(result.tokens - 1), result.decode_seconds);
  const double gigabytes =
      static_cast<double>(DecodeBytes(model.weights(), model.config())) *
      decode_rate / 1e9;
  if (common.json) {
    Json json = GenerateJson(text, result);
    json["decode_gigabytes_per_second"] = gigabytes;
    PrintJson(json);
    return;
  }
  Print("\n");
  if (common.quiet) return;
  PrintNote(fmt::format(
      "prefill {} tokens at {:.1f} tok/s, decode {} tokens at {:.1f} tok/s "
      "({:.2f} GB/s of weights)",
      result.prompt_tokens, prefill_rate, result.tokens, decode_rate,
      gigabytes));
}

}  // namespace

void AddGenerate(CLI::App& app, CommonOptions* common) {
  CLI::App* command = app.add_subcommand("generate", "continue a text");
  auto options = std::make_shared<GenerateArguments>();
  command->add_option("model", options->model, "model folder")->required();
  CLI::Option_group* prompt = command->add_option_group("prompt");
  prompt->add_option("--prompt", options->prompt, "text to continue");
  prompt->add_option("--prompt-file", options->prompt_file,
                     "file with it, in UTF-8 or UTF-16, taken as it is");
  prompt->require_option(1);
  AddGenerateOptions(command, &options->generate);
  AddRunOptions(command, &options->load);
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([options, common] { Run(*options, *common); });
}

}  // namespace mobe
