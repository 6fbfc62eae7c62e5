#include "cli/size_options.h"

#include "base/error.h"
#include "cli/expect.h"
#include "cli/parse_bytes.h"
#include "mobe/sizes.h"

namespace mobe {

void AddSizeOptions(CLI::App* command, SizeOptions* options) {
  CLI::Option* bytes = ExpectForm(
      command->add_option("--bytes", options->bytes,
                          "size to keep to, as 12GB: each layer's experts take "
                          "the bits that change predictions least, all else 8"),
      [](const std::string& text) { ParseBytes("--bytes", text); });
  ExpectNumber(
      command
          ->add_option("--bpw", options->bits_per_weight,
                       "the same in bits for each of the model's weights, as "
                       "3.5")
          ->excludes(bytes),
      "a number above 0 and at most 16",
      [](double value) { return value > 0 && value <= 16; });
}

void CheckHasText(const SizeOptions& options, const CalibrateOptions& calibrate,
                  const std::string& moments) {
  if (!options.given() || !calibrate.file.empty() || !moments.empty()) return;
  Fail(ErrorKind::kUserInput,
       "--bytes and --bpw choose by what errors do on a text: give one by "
       "--calibrate, or --moments");
}

int64_t BytesOf(const SizeOptions& options, const OpenedModel& model) {
  if (!options.bytes.empty()) return ParseBytes("--bytes", options.bytes);
  const auto weights =
      static_cast<double>(CountParts(model, model.tensors).total());
  return static_cast<int64_t>(weights * options.bits_per_weight / 8);
}

}  // namespace mobe
