// Makes the executors of a model.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/expert_executor.h"
#include "model/expert_store.h"
#include "model/memory_plan.h"

namespace mobe {

struct ModelExperts {
  // Of each layer; null where it has no experts.
  std::vector<std::unique_ptr<ExpertExecutor>> layers;
  // Null when none are streamed.
  std::unique_ptr<ExpertStore> store;
};

// The model and the weights must outlive the experts.
ModelExperts MakeExperts(const OpenedModel& model, const Weights& weights,
                         const LoadOptions& options, const MemoryPlan& plan);

// What the experts have cost so far: of cached ones or of streamed ones, which
// no plan has both.
struct ExpertStatistics {
  int64_t found = 0;           // uses of an expert that was built, or in memory
  int64_t missed = 0;          // and that was not
  int64_t built = 0;           // experts that were built for the time being
  int64_t disk_bytes = 0;      // read for these, and for guesses
  double disk_seconds = 0;     // for which the model waited for them
  double share_found() const;  // 1 when there were no uses
};
// What has come since.
ExpertStatistics operator-(const ExpertStatistics& now,
                           const ExpertStatistics& before);
ExpertStatistics StatisticsOf(const ModelExperts& experts);

// By mode, layers that run so.
std::map<std::string, int64_t> LayersByMode(const ModelExperts& experts);
// "fused", or of several ways "built 12, fused 36": layers. "dense" without
// experts.
std::string ModesOf(const ModelExperts& experts);

}  // namespace mobe
