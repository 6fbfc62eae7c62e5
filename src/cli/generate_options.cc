#include "cli/generate_options.h"

#include "cli/expect.h"
#include "model/generation_config.h"

namespace mobe {

void AddGenerateOptions(CLI::App* command, GenerateOptions* options) {
  SamplerOptions& sampler = options->sampler;
  const auto add = [command](const char* option, auto* value,
                             const char* help) {
    return command->add_option(option, *value, help)->capture_default_str();
  };
  ExpectWhole(
      add("--max-tokens", &options->max_tokens, "tokens to generate at most"),
      1);
  ExpectNumber(
      add("--temperature", &sampler.temperature,
          "0 takes the likeliest token (this and the next four, where not "
          "given, are those of the model's generation_config.json, if it has "
          "any)"),
      "a number, 0 or more", [](double t) { return t >= 0; });
  ExpectWhole(
      add("--top-k", &sampler.top_k, "keep the k likeliest tokens; 0: all"), 0);
  ExpectNumber(add("--top-p", &sampler.top_p,
                   "keep the likeliest tokens that sum to p; 1: all"),
               "a number above 0 and at most 1",
               [](double p) { return p > 0 && p <= 1; });
  ExpectNumber(add("--min-p", &sampler.min_p,
                   "keep tokens of p times the largest probability; 0: all"),
               "a number from 0 to 1",
               [](double p) { return p >= 0 && p <= 1; });
  ExpectNumber(add("--repetition-penalty", &sampler.repetition_penalty,
                   "divides the logits of tokens seen; 1: off"),
               "a number above 0", [](double p) { return p > 0; });
  ExpectWhole(add("--seed", &sampler.seed, "of the random choice"), 0,
              UINT64_MAX);
  command
      ->add_option("--stop", options->stop,
                   "end before this text; may be given several times")
      ->allow_extra_args(false);
}

void TakeModelsSampling(const CLI::App& command,
                        const std::filesystem::path& folder,
                        GenerateOptions* options) {
  const SamplerOptions models = WithGenerationConfig(folder, {});
  const auto take = [&](const char* option, auto member) {
    if (command.count(option) == 0) options->sampler.*member = models.*member;
  };
  take("--temperature", &SamplerOptions::temperature);
  take("--top-k", &SamplerOptions::top_k);
  take("--top-p", &SamplerOptions::top_p);
  take("--min-p", &SamplerOptions::min_p);
  take("--repetition-penalty", &SamplerOptions::repetition_penalty);
}

Json GenerateJson(const std::string& text, const GenerateResult& result) {
  return {{"text", text},
          {"prompt_tokens", result.prompt_tokens},
          {"tokens", result.tokens},
          {"finish_reason", FinishReasonName(result.reason)},
          {"prefill_seconds", result.prefill_seconds},
          {"decode_seconds", result.decode_seconds}};
}

}  // namespace mobe
