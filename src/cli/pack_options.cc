#include "cli/pack_options.h"

#include <string>
#include <vector>

#include "cli/expect.h"
#include "mobe/parts.h"
#include "tensor/format.h"

namespace mobe {

void AddPackOptions(CLI::App* command, CLI::App* group, PackOptions* options) {
  std::vector<std::string> formats;
  for (const FormatRow& row : Formats()) {
    if (row.packed()) formats.emplace_back(row.name);
  }
  std::vector<std::string> parts;
  for (const QuantPart& part : QuantParts()) parts.emplace_back(part.name);
  CLI::Option* format =
      ExpectOneOf(group->add_option("--format", options->format,
                                    "store matrices in so few bits"),
                  formats);
  CLI::Option* quantised = ExpectOneOf(
      command->add_option("--parts", options->parts,
                          "parts to quantise; default: all, embedding, head "
                          "and bases in 8 bits at least"),
      parts);
  quantised->delimiter(',');
  // Beside others of a group that is required, parts are of whichever is given.
  if (group == command) quantised->needs(format);
  command
      ->add_option("--part-formats", options->others,
                   "parts in other formats, of all layers or of some, as "
                   "bases=int6,down.0-3=int5")
      ->delimiter(',')
      ->needs(format);
  ExpectWhole(command
                  ->add_option("--refit-passes", options->refit_passes,
                               "of bases towards what few bits store of them, "
                               "with a text; 0: none")
                  ->capture_default_str(),
              0, INT64_MAX);
}

std::vector<const QuantPart*> PartsOf(const PackOptions& options) {
  std::vector<const QuantPart*> parts;
  for (const std::string& name : options.parts) {
    parts.push_back(QuantPartFromName(name));
  }
  return parts;
}

std::optional<PackRule> ToPackRule(const PackOptions& options, int64_t layers) {
  if (options.format.empty()) return std::nullopt;
  PackRule rule;
  rule.format = FormatFromName(options.format);
  rule.refit_passes = options.refit_passes;
  rule.parts = PartsOf(options);
  for (const std::string& other : options.others) {
    const PartFormat& one = rule.others.emplace_back(PartFormatOf(other));
    if (one.first_layer >= 0 && one.last_layer >= layers) {
      Fail(ErrorKind::kUserInput,
           "--part-formats {}: the model has layers 0 to {}", other,
           layers - 1);
    }
  }
  return rule;
}

}  // namespace mobe
