// The solvers: each is a row of a table, of what it is called, what it does,
// what that costs, and what it needs.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "fit/fit.h"

namespace mobe {

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

// Of FitShape::pairs: each expert's moment from what it read, twice, and A for
// what it puts out (output_solve.h).
double OperationsOfText(const FitShape& shape);

struct FitMemory;  // device.h

struct Solver {
  const char* name;  // --solver
  // Makes use of target.moment and inputs; takes options.start; fits on other
  // devices than the CPU; what its errors are decides --split auto.
  bool calibrates;
  bool takes_start;
  bool has_devices;
  bool splits;
  // Whether it leaves A to be solved for, for bases and alpha as stored.
  bool leaves_a;
  Factors (*fit)(const FitTarget&, const FitOptions&, const PassFn&);
  // Floating-point operations (an addition or a multiplication each) of matrix
  // products and decompositions; the rest is less than a hundredth. Of a
  // product of a matrix by itself, half.
  FitParts (*operations)(const FitShape&);
  // The most memory of one fit, on the device of the options.
  FitMemory (*memory)(const FitShape&, const FitDevice&);
};

// Beside kFastSolver of fit.h, variable projection (fast.cc): the published one
// (reference.cc).
extern const Solver kReferenceSolver;

std::span<const Solver* const> Solvers();
// Null when there is none of that name.
const Solver* FindSolver(std::string_view name);

}  // namespace mobe
