#include "cli/command.h"

#include <fmt/core.h>

namespace mobe {

void AddCommonOptions(CLI::App* command, CommonOptions* common,
                      JsonOutput json) {
  if (json == JsonOutput::kYes) {
    command->add_flag("--json", common->json,
                      "print one JSON object instead of text");
  }
  command->add_flag("--quiet", common->quiet, "no progress on stderr");
  command
      ->add_option("--threads", common->threads,
                   "threads to use (default: one for each core)")
      ->check(CLI::Range(1, 4096));
}

void PrintJson(const Json& object) {
  // Bytes that are no UTF-8 (a model may generate them) become U+FFFD.
  fmt::print("{}\n",
             object.dump(2, ' ', false, Json::error_handler_t::replace));
}

}  // namespace mobe
