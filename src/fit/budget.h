// What a fit costs: how long to go on, its operations, and its time from a
// probe. Numbers only; what a whole compress comes to is estimate.h.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "fit/fit.h"

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

// Sizes of one fit, as in fit.h.
struct FitShape {
  int64_t experts = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t rank = 0;
  int64_t num_bases = 0;
  int64_t basis_rank = 0;  // 0: whole bases
  // Calibrated: pairs of a token and an expert that reads it. 0: it is not.
  int64_t pairs = 0;
};

// What a fit takes, of operations or of seconds: once, for each pass, and more
// for each look of the fast solver's metric (metric.h).
struct FitParts {
  double fixed = 0;
  double pass = 0;
  double look = 0;

  double Total(int64_t passes) const;
};

// Floating-point operations (an addition or a multiplication each) of matrix
// products and decompositions; the rest is less than a hundredth. Of a product
// of a matrix by itself, half.
FitParts OperationsOf(const FitShape& shape, Solver solver);

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
ProbeSize ProbeSizeOf(const FitShape& shape, Solver solver, int64_t threads);

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
