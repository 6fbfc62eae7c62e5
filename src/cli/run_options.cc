#include "cli/run_options.h"

#include <map>
#include <string>

namespace mobe {

void AddRunOptions(CLI::App* command, LoadOptions* options) {
  const std::map<std::string, Precision> precisions = {
      {"float32", Precision::kFloat32}, {"bfloat16", Precision::kBFloat16}};
  const std::map<std::string, ExpertMode> modes = {
      {"auto", ExpertMode::kAuto},
      {"built", ExpertMode::kBuilt},
      {"fused", ExpertMode::kFused}};
  command
      ->add_option("--dtype", options->precision,
                   "arithmetic of large products (default: float32)")
      ->transform(CLI::Transformer(precisions, CLI::ignore_case))
      ->type_name("float32|bfloat16");
  command
      ->add_option("--experts", options->experts,
                   "factored experts: built at load, fused (never built: less "
                   "memory, slower), or what memory allows (default: auto)")
      ->transform(CLI::Transformer(modes, CLI::ignore_case))
      ->type_name("auto|built|fused");
}

}  // namespace mobe
