#include "cli/calibrate_options.h"

#include <algorithm>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "cli/expect.h"
#include "eval/text.h"
#include "mobe/model_identity.h"
#include "mobe/moments_file.h"
#include "model/moments.h"

namespace mobe {
namespace {

// Uniform over the vocabulary, by the generator's own numbers: the same ids
// everywhere (std::uniform_int_distribution may differ between libraries).
std::vector<int32_t> RandomTokens(int64_t count, int64_t vocab_size) {
  std::mt19937_64 random(0);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab_size));
  }
  return ids;
}

}  // namespace

std::vector<int32_t> ReadTokens(const CalibrateOptions& options,
                                const OpenedModel& model) {
  if (options.file.empty() || options.file == "random") {
    return RandomTokens(options.max_tokens, model.config.vocab_size);
  }
  EvalText text =
      ReadEvalText(model.checkpoint.folder(), options.file, options.max_tokens);
  if (text.tokens.empty()) {
    Fail(ErrorKind::kUserInput, "{}: no tokens to calibrate on", options.file);
  }
  return std::move(text.tokens);
}

std::vector<CLI::Option*> AddTokenOptions(CLI::App* command,
                                          const std::string& max_tokens,
                                          const std::string& context,
                                          CalibrateOptions* options) {
  const auto add = [command](const std::string& name, int64_t* value,
                             const char* help) {
    return ExpectWhole(
        command->add_option(name, *value, help)->capture_default_str(), 1,
        uint64_t{1} << 30);
  };
  return {add(max_tokens, &options->max_tokens,
              "tokens of the text to use at most"),
          add(context, &options->context,
              "tokens that the model reads in one piece")};
}

void AddCalibrateOptions(CLI::App* command, const std::string& readers,
                         CalibrateOptions* options) {
  CLI::Option* file = command->add_option(
      "--calibrate", options->file,
      "text to run the model on first, so that errors are weighed by what " +
          readers + " read; random: token ids at random, no data");
  for (CLI::Option* option : AddTokenOptions(command, "--calibrate-tokens",
                                             "--calibrate-context", options)) {
    option->needs(file);
  }
}

namespace {

void CopyWithProgress(const std::string& from, const std::filesystem::path& to,
                      const ProgressFn& progress) {
  const MappedFile source(from);
  AtomicFile copy(to);
  constexpr size_t kPiece = size_t{16} << 20;
  for (size_t at = 0; at < source.bytes().size(); at += kPiece) {
    const auto rest = source.bytes().subspan(at);
    copy.Write(rest.first(std::min(rest.size(), kPiece)));
    source.Evict(rest.first(std::min(rest.size(), kPiece)));
    progress({.what = "copying moments"});
  }
  copy.Commit();
}

}  // namespace

Calibration ToCalibration(const CalibrateOptions& options,
                          const OpenedModel& model, CalibrationScope scope) {
  CheckRuns(*model.family, model.checkpoint.folder().string());
  auto ids =
      std::make_shared<const std::vector<int32_t>>(ReadTokens(options, model));
  const CalibrationTokens tokens{*ids, options.context};
  Calibration calibration;
  calibration.tokens = static_cast<int64_t>(ids->size());
  calibration.hash = tokens.Hash();
  calibration.collect = [ids, tokens, scope, &model](
                            const std::filesystem::path& file,
                            const ProgressFn& progress) {
    CollectMoments(model, tokens, scope, file, progress);
  };
  calibration.probe = [ids, tokens, scope, &model] {
    return ProbeMoments(model, tokens, scope);
  };
  calibration.bytes = MomentsBytes(model, calibration.tokens, scope);
  return calibration;
}

Calibration CalibrationFrom(const std::string& file, const OpenedModel& model) {
  const MomentsHeader header = ReadMomentsHeader(file);
  if (header.model != WeightsIdentity(model.checkpoint.folder())) {
    Fail(ErrorKind::kUserInput,
         "--moments {}: is of another model than {}; make one of this: mobe "
         "calibrate",
         file, model.checkpoint.folder().string());
  }
  Calibration calibration;
  calibration.tokens = header.tokens;
  // Of all bytes: what else tells that they are the ones the job began with?
  calibration.hash = HashFile(file);
  calibration.collect = [file](const std::filesystem::path& copy,
                               const ProgressFn& progress) {
    CopyWithProgress(file, copy, progress);
  };
  calibration.probe = [] { return 0.0; };
  calibration.bytes = StampOf(file).bytes;
  return calibration;
}

}  // namespace mobe
