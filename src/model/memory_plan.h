// What each layer's experts run as in a given memory, and what the memory is
// for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/load_options.h"
#include "model/weights.h"

namespace mobe {

struct MemoryPlan {
  int64_t limit = 0;     // bytes of the process
  std::string whose;     // "--memory", "cgroup /docker/8a1", ...
  bool is_hard = false;  // it was asked for, rather than found
  // Of each layer: kBuilt, kFused, kCached or kStreamed; kFused where there are
  // no experts.
  std::vector<ExpertMode> modes;
  // Of experts that are built for the time being, in each layer, or read, in
  // all.
  int64_t expert_bytes = 0;
  // Tokens that pass through a layer together; in one pass after another,
  // before the next layer runs; and that texts keep at a time.
  int64_t pass_tokens = 0;
  int64_t step_tokens = 0;
  int64_t cache_tokens = 0;
  // Texts of which states are kept at a time, if there are any.
  int64_t sequences = 0;
  // Whether what is mapped and hardly used has to be let go at once.
  bool evicts = false;

  struct Line {
    std::string what;  // "attention, head", "experts streamed: 212 of 6144"
    int64_t bytes;
  };
  std::vector<Line> lines;
};

// Of the memory that there is, what is planned with where nobody says how much:
// others take and give back some meanwhile.
int64_t BytesToPlan(int64_t available);

// What a run takes beside weights at the least: keys, values and states of
// texts as the options have them, passes of few tokens, and the program.
int64_t LeastBytesBesideWeights(const ModelConfig& config,
                                const LoadOptions& options);

// Fails with kOutOfMemory when options.experts, or the model in any way, does
// not fit in options.memory: tells what is needed; and when what was asked for
// does not fit in the memory that there is.
MemoryPlan PlanMemory(const OpenedModel& model, const Weights& weights,
                      const LoadOptions& options);

}  // namespace mobe
