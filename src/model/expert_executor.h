// How the experts of one layer are run, and where their matrices are meanwhile.
// A file for each way:
//
// stored_experts    as the checkpoint has them, mapped: "plain", or "fused" of
//                   a factored layer, whose W = A f(sum alpha B) never exist
// built_experts     every W is computed before the layer first runs
// cached_experts    the most used experts are built, the others fused
// streamed_experts  read from the disk when the router asks for them
//
// memory_plan.h chooses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/direct_reader.h"
#include "model/expert_math.h"

namespace mobe {

struct Uses {
  int64_t found = 0;   // of an expert that was built
  int64_t missed = 0;  // and that was not
  int64_t built = 0;   // experts that were built for it
};

class ExpertExecutor {
 public:
  ExpertExecutor() = default;
  ExpertExecutor(const ExpertExecutor&) = delete;
  ExpertExecutor& operator=(const ExpertExecutor&) = delete;
  virtual ~ExpertExecutor() = default;

  // "plain", "fused", "built", ...
  virtual const char* mode() const = 0;
  // s->down [pairs, hidden] from s->x; s->starts tells whose the pairs are. One
  // call at a time of all executors of a model.
  virtual void Run(const Arithmetic& math, MlpScratch* s) = 0;

  // Whether it helps to be told which experts are going to run, and being told:
  // now, in the Run that follows, or perhaps later. They may repeat.
  virtual bool WantsHints() const { return false; }
  virtual void Expect(std::span<const int32_t> experts, Urgency urgency) {
    (void)experts;
    (void)urgency;
  }

  // So far, where that counts.
  virtual Uses uses() const { return {}; }

  // Memory that stays, with matrices that Run reads.
  virtual std::vector<Plane> Matrices() const = 0;
  // Bytes of weights that a step of one token reads, with so many experts.
  virtual int64_t TokenBytes(int64_t picks) const = 0;
};

// Those of a layer's experts that have pairs in s.
std::vector<ActiveExpert> ListActive(const MlpScratch& s,
                                     std::span<const MlpWeights> experts);

}  // namespace mobe
