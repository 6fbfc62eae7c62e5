#include "model/expert_modes.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "model/built_experts.h"
#include "model/cached_experts.h"
#include "model/stored_experts.h"
#include "model/streamed_experts.h"

namespace mobe {
namespace {

struct Request {
  const OpenedModel& model;
  const LayerWeights& weights;
  int64_t layer;
  std::optional<NumberFormat> built;
  const MemoryPlan& plan;
  ExpertStore* store;
};

using Executor = std::unique_ptr<ExpertExecutor>;

struct Row {
  ExpertMode mode;
  const char* name;
  Executor (*make)(const Request& r);  // null: of the table's others
};
constexpr Row kRows[] = {
    {ExpertMode::kAuto, "auto", nullptr},
    {ExpertMode::kBuilt, "built",
     [](const Request& r) -> Executor {
       return std::make_unique<BuiltExperts>(r.weights, r.built,
                                             r.model.checkpoint);
     }},
    {ExpertMode::kFused, "fused",
     [](const Request& r) -> Executor {
       return std::make_unique<StoredExperts>(r.weights);
     }},
    {ExpertMode::kCached, "cached",
     [](const Request& r) -> Executor {
       return std::make_unique<CachedExperts>(r.weights, r.built,
                                              r.plan.expert_bytes);
     }},
    {ExpertMode::kStreamed, "streamed", [](const Request& r) -> Executor {
       return std::make_unique<StreamedExperts>(r.weights, r.layer, r.store);
     }}};

}  // namespace

const char* ExpertModeName(ExpertMode mode) {
  return std::ranges::find(kRows, mode, &Row::mode)->name;
}

ModelExperts MakeExperts(const OpenedModel& model, const Weights& weights,
                         const LoadOptions& options, const MemoryPlan& plan) {
  ModelExperts experts;
  if (std::ranges::count(plan.modes, ExpertMode::kStreamed) > 0) {
    experts.store =
        std::make_unique<ExpertStore>(model, weights, plan.expert_bytes);
  }
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    Executor& executor = experts.layers.emplace_back();
    if (weights.layers[i].experts.empty()) continue;
    executor = std::ranges::find(kRows, plan.modes[i], &Row::mode)
                   ->make({model, weights.layers[i], static_cast<int64_t>(i),
                           options.built, plan, experts.store.get()});
  }
  return experts;
}

double ExpertStatistics::share_found() const {
  const int64_t all = found + missed;
  return all == 0 ? 1 : static_cast<double>(found) / static_cast<double>(all);
}

ExpertStatistics operator-(const ExpertStatistics& now,
                           const ExpertStatistics& before) {
  return {.found = now.found - before.found,
          .missed = now.missed - before.missed,
          .built = now.built - before.built,
          .disk_bytes = now.disk_bytes - before.disk_bytes,
          .disk_seconds = now.disk_seconds - before.disk_seconds};
}

ExpertStatistics StatisticsOf(const ModelExperts& experts) {
  ExpertStatistics sum;
  for (const Executor& executor : experts.layers) {
    if (executor == nullptr) continue;
    const Uses uses = executor->uses();
    sum.found += uses.found;
    sum.missed += uses.missed;
    sum.built += uses.built;
  }
  if (experts.store != nullptr) {
    const ExpertStore::Statistics& read = experts.store->statistics();
    sum.found += read.found;
    sum.missed += read.waited;
    sum.disk_bytes = read.bytes;
    sum.disk_seconds = read.seconds;
  }
  return sum;
}

std::map<std::string, int64_t> LayersByMode(const ModelExperts& experts) {
  std::map<std::string, int64_t> layers;
  for (const Executor& executor : experts.layers) {
    if (executor) ++layers[executor->mode()];
  }
  return layers;
}

std::string ModesOf(const ModelExperts& experts) {
  const auto layers = LayersByMode(experts);
  if (layers.empty()) return "dense";
  if (layers.size() == 1) return layers.begin()->first;
  std::vector<std::string> parts;
  for (const auto& [mode, count] : layers) {
    parts.push_back(fmt::format("{} {}", mode, count));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace mobe
