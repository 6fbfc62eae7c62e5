// mobe inspect MODEL
#include <fmt/core.h>

#include "cli/command.h"
#include "cli/commands.h"
#include "mobe/open_model.h"
#include "mobe/sizes.h"

namespace mobe {
namespace {

struct PartRow {
  const char* name;
  int64_t PartSizes::*size;
};
constexpr PartRow kParts[] = {
    {"embedding", &PartSizes::embedding}, {"attention", &PartSizes::attention},
    {"router", &PartSizes::router},       {"experts", &PartSizes::experts},
    {"dense", &PartSizes::dense},         {"norms", &PartSizes::norms}};

void Run(const std::string& folder, const CommonOptions& common) {
  const OpenedModel model = OpenModel(folder);
  const ModelConfig& config = model.config;
  const PartSizes stored = CountParts(model.tensors);
  const PartSizes plain = CountParts(ListTensors(*model.family, config));
  const Ratios ratios = RatiosOf(stored, plain);
  int64_t moe_layers = 0;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    moe_layers += config.IsMoeLayer(layer) ? 1 : 0;
  }
  if (common.json) {
    Json json = {{"family", model.family->model_type},
                 {"layers", config.num_layers},
                 {"moe_layers", moe_layers},
                 {"hidden_size", config.hidden_size},
                 {"vocab_size", config.vocab_size},
                 {"experts", config.num_experts},
                 {"experts_per_token", config.experts_per_token},
                 {"expert_size", config.expert_size},
                 {"bytes", model.checkpoint.bytes()},
                 {"ratio_experts", ratios.experts},
                 {"ratio_model", ratios.model},
                 {"mobe", nullptr}};
    for (const PartRow& part : kParts) {
      json["parameters"][part.name] = stored.*part.size;
    }
    json["parameters"]["total"] = stored.total();
    if (model.mobe) {
      json["mobe"] = DescribeFormat(*model.mobe);
    }
    PrintJson(json);
    return;
  }
  fmt::print("{}: {}\n", folder, model.family->model_type);
  fmt::print("{} layers ({} with experts), hidden {}, vocabulary {}\n",
             config.num_layers, moe_layers, config.hidden_size,
             config.vocab_size);
  fmt::print("{} experts of {}, {} for each token\n", config.num_experts,
             config.expert_size, config.experts_per_token);
  for (const PartRow& part : kParts) {
    if (stored.*part.size == 0) continue;
    fmt::print("  {:10} {:>16} parameters\n", part.name, stored.*part.size);
  }
  fmt::print("  {:10} {:>16} parameters, {}\n", "total", stored.total(),
             FormatBytes(static_cast<double>(model.checkpoint.bytes())));
  if (model.mobe) {
    fmt::print("MoBE: {}\n", SummarizeFormat(*model.mobe));
    fmt::print("expert weights kept: {:.1f}%   whole model: {:.1f}%\n",
               100 * ratios.experts, 100 * ratios.model);
  } else {
    fmt::print("not compressed\n");
  }
}

}  // namespace

void AddInspect(CLI::App& app, CommonOptions* common) {
  auto* command =
      app.add_subcommand("inspect", "tell what a model folder holds");
  auto folder = std::make_shared<std::string>();
  command->add_option("model", *folder, "model folder")->required();
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([=] { Run(*folder, *common); });
}

}  // namespace mobe
