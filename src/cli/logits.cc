// mobe logits: runs a model on given token ids, for comparison with others.
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/output_file.h"
#include "cli/run_options.h"
#include "cli/token_ids.h"
#include "io/safetensors.h"
#include "model/model.h"

namespace mobe {
namespace {

struct LogitsArguments {
  std::string model;
  std::string ids;
  OutputFile out;
  LoadOptions load;
};

void Run(const LogitsArguments& options, const CommonOptions& common) {
  const auto check = [&] {
    CheckOutputFile(options.out, kLogitsOutput, {options.model}, {options.ids});
  };
  check();
  const TokenIds ids = ReadTokenIds(options.ids);
  const size_t length = ids.sequences.front().size();
  for (const auto& sequence : ids.sequences) {
    if (sequence.size() == length) continue;
    Fail(ErrorKind::kUserInput,
         "{}: sequences of {} and of {} tokens, expected one length",
         options.ids, length, sequence.size());
  }
  const auto tokens = static_cast<int64_t>(length);
  LoadOptions load = options.load;
  load.cache_tokens = tokens;
  const Model model = Model::Load(options.model, load);
  PrintMemory(model, common);
  KvCache cache = model.NewCache(tokens);
  std::vector<int64_t> shape = {tokens, model.config().vocab_size};
  Buffer<float> logits(shape[0] * shape[1]);
  if (ids.batched) {
    shape.insert(shape.begin(), static_cast<int64_t>(ids.sequences.size()));
  }
  SafetensorsWriter writer(options.out.path, {{"logits", DType::kF32, shape}});
  for (const auto& sequence : ids.sequences) {
    cache.Truncate(0);
    model.Forward(sequence, &cache, LogitsFor::kAll, logits.data());
    writer.Append("logits", std::as_bytes(std::span(
                                logits.data(), logits.data() + logits.size())));
  }
  check();  // again: another command may have written it meanwhile
  writer.Commit();
  if (!common.quiet) {
    Print("logits {} in {}\n", Json(shape).dump(), OneLine(options.out.path));
  }
  PrintSpeed(model.statistics(), common);
  PrintExperts(model, model.statistics(), common);
}

}  // namespace

void AddLogits(CLI::App& app, CommonOptions* common) {
  CLI::App* command =
      app.add_subcommand("logits", "write a model's logits for token ids");
  auto options = std::make_shared<LogitsArguments>();
  ExpectModel(command->add_option("model", options->model, "model folder"));
  command
      ->add_option("--ids", options->ids,
                   "token ids: .safetensors, JSON, or text with a sequence a "
                   "line")
      ->required();
  command
      ->add_option("--out", options->out.path,
                   "file to write, .safetensors with float32 logits "
                   "[sequences, tokens, vocabulary]")
      ->required();
  AddForce(command, "the logits", &options->out);
  AddRunOptions(command, &options->load);
  AddVerbose(command, common);
  AddCommonOptions(command, common, JsonOutput::kNo);
  command->callback([options, common] { Run(*options, *common); });
}

}  // namespace mobe
