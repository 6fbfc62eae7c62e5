// mobe generate: continues a text.
#include "model/generate.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "base/text_file.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/generate_options.h"
#include "cli/run_options.h"
#include "io/hub.h"

namespace mobe {
namespace {

struct GenerateArguments {
  std::string model;
  std::string prompt;
  std::string prompt_file;
  std::string prompts_file;
  LoadOptions load = kTextOptions;
  GenerateOptions generate;
};

double PerSecond(double count, double seconds) {
  return seconds > 0 ? count / seconds : 0;
}

Json TokenJson(const Tokenizer& tokenizer, int32_t token, double log_prob) {
  const int32_t ids[] = {token};
  return {{"id", token},
          {"token", tokenizer.Decode(ids, /*skip_special=*/false)},
          {"logprob", log_prob}};
}

Json AnswerJson(const Tokenizer& tokenizer, const GenerateOptions& options,
                const std::string& text, const GenerateResult& result) {
  Json json = GenerateJson(text, result);
  if (options.log_probs == 0) return json;
  Json tokens = Json::array();
  for (const SampledToken& sampled : result.sampled) {
    Json entry =
        TokenJson(tokenizer, sampled.token, sampled.log_probs.log_prob);
    entry["top_logprobs"] = Json::array();
    for (const TokenLogProb& top : sampled.log_probs.top) {
      entry["top_logprobs"].push_back(
          TokenJson(tokenizer, top.token, top.log_prob));
    }
    tokens.push_back(std::move(entry));
  }
  json["logprobs"] = std::move(tokens);
  return json;
}

// Memory is planned for so many tokens, of so many texts.
Model LoadModel(const GenerateArguments& options, int64_t cache_tokens,
                int64_t sequences, const CommonOptions& common) {
  LoadOptions load = options.load;
  load.cache_tokens = cache_tokens;
  load.sequences = sequences;
  Model model = Model::Load(options.model, load);
  PrintMemory(model, common);
  return model;
}

void RunOne(const GenerateArguments& options, const CommonOptions& common) {
  const Tokenizer tokenizer = Tokenizer::Load(options.model);
  const std::string prompt = options.prompt_file.empty()
                                 ? DecodeText(options.prompt, "--prompt")
                                 : ReadTextFile(options.prompt_file);
  const std::vector<int32_t> ids = tokenizer.EncodePrompt(prompt);
  const Model model = LoadModel(
      options, std::ssize(ids) + options.generate.max_tokens, 1, common);
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
      static_cast<double>(model.DecodeBytes()) * decode_rate / 1e9;
  const RunStatistics run = model.statistics();
  if (common.json) {
    Json json = AnswerJson(tokenizer, options.generate, text, result);
    json["decode_gigabytes_per_second"] = gigabytes;
    json["experts"] = {{"mode", ModesOf(model.experts())},
                       {"found", run.experts.found},
                       {"missed", run.experts.missed},
                       {"built", run.experts.built},
                       {"disk_bytes", run.experts.disk_bytes},
                       {"disk_seconds", run.experts.disk_seconds}};
    PrintJson(json);
  } else {
    Print("\n");
  }
  if (common.json || common.quiet) {
    PrintSpeed(run, common);
  } else {
    PrintNote(fmt::format(
        "prefill {} tokens at {:.1f} tok/s, decode {} tokens at {:.1f} tok/s "
        "({:.2f} GB/s of weights)",
        result.prompt_tokens, prefill_rate, result.tokens, decode_rate,
        gigabytes));
  }
  PrintExperts(model, run, common);
}

// A prompt a line, as it is or as a JSON string, so that it may hold line
// breaks, too. Blank lines are none.
std::vector<std::string> ReadPrompts(const std::string& file) {
  std::vector<std::string> prompts;
  int64_t number = 0;
  for (std::string& line : LinesOf(ReadTextFile(file))) {
    ++number;
    if (IsBlankLine(line)) continue;
    if (line.starts_with('"')) {
      line = ParseJson(line, fmt::format("{}: line {}", file, number))
                 .get<std::string>();
    }
    prompts.push_back(std::move(line));
  }
  if (prompts.empty()) {
    Fail(ErrorKind::kUserInput, "{}: no prompts, expected one a line", file);
  }
  return prompts;
}

// Of the longest contexts that can be there at a time.
int64_t TokensTogether(const std::vector<std::vector<int32_t>>& prompts,
                       int64_t max_tokens) {
  std::vector<int64_t> lengths;
  lengths.reserve(prompts.size());
  for (const auto& prompt : prompts) lengths.push_back(std::ssize(prompt));
  std::ranges::sort(lengths, std::greater());
  const EngineOptions engine;
  int64_t tokens = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (std::cmp_less(i, engine.sequences)) tokens += lengths[i] + max_tokens;
  }
  return std::min(tokens, engine.cache_tokens);
}

void RunAll(const GenerateArguments& options, const CommonOptions& common) {
  const std::vector<std::string> prompts = ReadPrompts(options.prompts_file);
  const Tokenizer tokenizer = Tokenizer::Load(options.model);
  std::vector<std::vector<int32_t>> ids;
  ids.reserve(prompts.size());
  for (const std::string& prompt : prompts) {
    ids.push_back(tokenizer.EncodePrompt(prompt));
  }
  const Model model = LoadModel(
      options, TokensTogether(ids, options.generate.max_tokens),
      2 * std::min(std::ssize(ids), EngineOptions().sequences), common);
  Json answers = Json::array();
  int64_t tokens = 0;
  size_t number = 0;
  bool failed = false;
  const double start = MonotonicSeconds();
  GenerateAll(
      model, tokenizer, ids, options.generate, [&](const Answer& answer) {
        ++number;
        tokens += answer.result.tokens;
        if (answer.error) {
          failed = true;
          answers.push_back({{"error", answer.error->what()}});
        } else {
          answers.push_back(AnswerJson(tokenizer, options.generate, answer.text,
                                       answer.result));
        }
        if (common.json) return;
        // A line each, whatever is in it.
        PrintText((answer.error ? "null" : Json(answer.text).dump()) + "\n");
        if (answer.error) {
          PrintNote(fmt::format("prompt {}: {}", number, answer.error->what()));
        }
      });
  const double seconds = MonotonicSeconds() - start;
  if (common.json) {
    PrintJson({{"answers", answers}, {"tokens", tokens}, {"seconds", seconds}});
  } else if (!common.quiet) {
    PrintNote(fmt::format(
        "{} prompt{}, {} tokens at {:.1f} tok/s with the prompts' time", number,
        number == 1 ? "" : "s", tokens,
        PerSecond(static_cast<double>(tokens), seconds)));
  }
  PrintSpeed(model.statistics(), common);
  PrintExperts(model, model.statistics(), common);
  if (failed) throw Failed{};
}

void Run(const GenerateArguments& options, const CommonOptions& common) {
  CheckModelFolder(options.model);
  if (options.generate.log_probs > 0 && !common.json) {
    Fail(ErrorKind::kUserInput, "--logprobs needs --json");
  }
  options.prompts_file.empty() ? RunOne(options, common)
                               : RunAll(options, common);
}

}  // namespace

void AddGenerate(CLI::App& app, CommonOptions* common) {
  CLI::App* command = app.add_subcommand("generate", "continue a text");
  auto options = std::make_shared<GenerateArguments>();
  ExpectModel(command->add_option("model", options->model, "model folder"));
  CLI::Option_group* prompt = command->add_option_group("prompt");
  prompt->add_option("--prompt", options->prompt, "text to continue");
  prompt->add_option("--prompt-file", options->prompt_file,
                     "file with it, in UTF-8 or UTF-16, taken as it is");
  prompt->add_option("--prompts-file", options->prompts_file,
                     "file with many, a line each, as it is or as a JSON "
                     "string; they run together");
  prompt->require_option(1);
  AddGenerateOptions(command, &options->generate);
  ExpectWhole(
      command
          ->add_option("--logprobs", options->generate.log_probs,
                       "with --json: log-probabilities of the tokens, and of "
                       "this many of the likeliest at each; 0: none")
          ->capture_default_str(),
      0);
  AddRunOptions(command, &options->load);
  AddVerbose(command, common);
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([command, options, common] {
    TakeModelsSampling(*command, options->model, &options->generate);
    Run(*options, *common);
  });
}

}  // namespace mobe
