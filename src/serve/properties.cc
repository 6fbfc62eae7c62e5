// GET /props and /report: what is served, and what was made of it.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <mutex>

#include "base/memory.h"
#include "compress/recipe.h"
#include "eval/report.h"
#include "model/expert_modes.h"
#include "serve/handlers.h"

namespace mobe {
namespace {

Json PartsJson(const PartSizes& sizes) {
  Json json = Json::object();
  for (const PartRow& row : kParts) json[row.name] = sizes.*row.size;
  return json;
}

Json CompressionJson(const Recipe& recipe) {
  Json errors = Json::array();
  for (const RecipeMatrix& matrix : recipe.matrices) {
    errors.push_back({{"layer", matrix.layer},
                      {"kind", matrix.kind},
                      {"relative_error", matrix.error.relative}});
  }
  return {{"bytes_before", recipe.bytes_in},
          {"bytes_after", recipe.bytes_out},
          {"parameters_before", PartsJson(recipe.parameters_in)},
          {"parameters_after", PartsJson(recipe.parameters_out)},
          {"experts_kept", recipe.ratios().experts},
          {"model_kept", recipe.ratios().model},
          {"errors", std::move(errors)}};
}

Json MemoryJson(const MemoryPlan& plan) {
  Json lines = Json::array();
  for (const MemoryPlan::Line& line : plan.lines) {
    lines.push_back({{"what", line.what}, {"bytes", line.bytes}});
  }
  return {{"limit_bytes", plan.limit},
          {"limit_by", plan.whose},
          {"resident_bytes", ResidentBytes().all},
          {"plan", std::move(lines)}};
}

}  // namespace

ApiReply ShowProperties(Service* service, const ApiRequest&) {
  const Model& model = service->model();
  const ModelConfig& config = model.config();
  const SamplerOptions& sampler = service->sampler();
  const std::optional<Recipe> recipe = ReadRecipe(model.folder());
  return JsonReply(
      {{"model", service->options().name},
       {"mobe", MOBE_VERSION},
       {"context", service->context()},
       {"vocabulary", config.vocab_size},
       {"layers", config.num_layers},
       {"experts",
        {{"of_a_layer", config.num_experts},
         {"of_a_token", config.experts_per_token},
         {"mode", ModesOf(model.experts())}}},
       {"chat", service->has_chat_template()},
       {"sequences", service->options().queue.engine.sequences},
       {"sampling",
        {{"temperature", sampler.temperature},
         {"top_k", sampler.top_k},
         {"top_p", sampler.top_p},
         {"min_p", sampler.min_p},
         {"repetition_penalty", sampler.repetition_penalty}}},
       {"memory", MemoryJson(model.plan())},
       {"factored", model.mobe().has_value()},
       {"shape", model.mobe() ? Json(SummarizeFormat(*model.mobe())) : Json()},
       {"compression", recipe ? CompressionJson(*recipe) : Json()}});
}

// The page is made once, when it is first asked for: that takes seconds.
ApiReply ShowReport(Service* service, const ApiRequest&) {
  const std::filesystem::path& folder = service->model().folder();
  if (!service->model().mobe() &&
      !std::filesystem::exists(folder / kRecipeFile)) {
    throw ApiError(404, "the model is an original, so there is no report");
  }
  static std::mutex mutex;
  static std::string page;
  const std::lock_guard lock(mutex);
  if (page.empty()) {
    page = ReportPage(GatherReport(OpenModel(service->model().folder()),
                                   nullptr, [](const ProgressEvent&) {}));
  }
  return {.content_type = "text/html; charset=utf-8", .body = page};
}

}  // namespace mobe
