#include "cli/pack_options.h"

#include <string>
#include <vector>

#include "cli/expect.h"
#include "mobe/parts.h"
#include "tensor/format.h"

namespace mobe {

CLI::Option* AddPackOptions(CLI::App* command, PackOptions* options) {
  std::vector<std::string> formats;
  for (const FormatRow& row : Formats()) {
    if (row.packed()) formats.emplace_back(row.name);
  }
  std::vector<std::string> parts;
  for (const QuantPart& part : QuantParts()) parts.emplace_back(part.name);
  CLI::Option* format =
      ExpectOneOf(command->add_option("--format", options->format,
                                      "store matrices in so few bits"),
                  formats);
  ExpectOneOf(
      command->add_option("--parts", options->parts,
                          "parts to quantise; default: all, embedding and head "
                          "in 8 bits. Bases have no form of fewer than 8"),
      parts)
      ->delimiter(',')
      ->needs(format);
  return format;
}

std::optional<PackRule> ToPackRule(const PackOptions& options) {
  if (options.format.empty()) return std::nullopt;
  PackRule rule;
  rule.format = FormatFromName(options.format);
  for (const std::string& name : options.parts) {
    rule.parts.push_back(QuantPartFromName(name));
  }
  return rule;
}

}  // namespace mobe
