#include "cli/pack_options.h"

#include <fmt/core.h>

#include <algorithm>
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
                          "parts to quantise; default: all, embedding, head "
                          "and bases in 8 bits at least"),
      parts)
      ->delimiter(',')
      ->needs(format);
  std::vector<std::string> others;
  for (const std::string& part : parts) {
    for (const std::string& name : formats) others.push_back(part + "=" + name);
  }
  command
      ->add_option("--part-formats", options->others,
                   "parts in other formats, as bases=int6,down=int5")
      ->delimiter(',')
      ->needs(format)
      ->check([others](const std::string& given) {
        return std::ranges::count(others, given) > 0
                   ? std::string()
                   : fmt::format("{} is no part and format, as bases=int6",
                                 given);
      });
  return format;
}

std::optional<PackRule> ToPackRule(const PackOptions& options) {
  if (options.format.empty()) return std::nullopt;
  PackRule rule;
  rule.format = FormatFromName(options.format);
  for (const std::string& name : options.parts) {
    rule.parts.push_back(QuantPartFromName(name));
  }
  for (const std::string& other : options.others) {
    const size_t equals = other.find('=');
    rule.others.emplace_back(QuantPartFromName(other.substr(0, equals)),
                             FormatFromName(other.substr(equals + 1)));
  }
  return rule;
}

}  // namespace mobe
