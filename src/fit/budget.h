// What a fit costs: how long to go on, its operations, and its time from a
// probe. Numbers only; what a whole compress comes to is estimate.h.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "fit/fit.h"
#include "fit/method.h"

namespace mobe {

// How long to fit: passes of each matrix, or seconds for the whole job, which
// become passes once, by a probe before the first matrix.
struct Budget {
  int64_t passes = 0;
  double seconds = 0;  // 0: passes hold
};
// "500", "90s", "10m", "2h". Fails with kUserInput.
Budget ParseBudget(const std::string& text);
// Only the one or the other: --passes and --time.
Budget ParsePasses(const std::string& text);
Budget ParseTime(const std::string& text);

// Time of one fit, from a few passes.
struct FitCost {
  FitParts seconds;
  // What it was measured from.
  int64_t passes = 0;
  int64_t experts = 0;
  double probe_seconds = 0;
};

// The part of a fit that a probe does: about as many operations as take a few
// seconds.
struct ProbeSize {
  int64_t passes = 0;
  int64_t experts = 0;
  int64_t num_bases = 0;
};
// `workers`: FitDevice::workers.
ProbeSize ProbeSizeOf(const FitShape& shape, const Method& solver,
                      int64_t workers);

// Measures on the first experts of `target`, and scales by operations; `shape`
// is of the whole fit. Calls `on_pass` after each pass; what it throws ends the
// probe.
FitCost ProbeFit(const FitTarget& target, const FitShape& shape,
                 const FitOptions& options,
                 const std::function<void()>& on_pass);

// The largest number of passes (at least 1) that fits into that many seconds
// when the whole job is `units` times what the cost is of.
int64_t PassesWithin(double seconds, const FitCost& cost, double units);

}  // namespace mobe
