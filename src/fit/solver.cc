#include "fit/solver.h"

#include "fit/looks.h"
#include "fit/output_solve.h"

namespace mobe {
namespace {

constexpr const Solver* kSolvers[] = {&kFastSolver, &kReferenceSolver};

}  // namespace

std::span<const Solver* const> Solvers() { return kSolvers; }

const Solver* FindSolver(std::string_view name) {
  for (const Solver* solver : kSolvers) {
    if (name == solver->name) return solver;
  }
  return nullptr;
}

double FitParts::Total(int64_t passes) const {
  return fixed + pass * static_cast<double>(passes) +
         look * static_cast<double>(internal::LooksIn(passes));
}

double OperationsOfText(const FitShape& shape) {
  const auto d = static_cast<double>(shape.cols);
  const auto p = static_cast<double>(shape.rows);
  const auto r = static_cast<double>(shape.rank);
  // Gate, up and N of what was read; R^-T; and the steps.
  const double outputs = 2 * (2 * p + r) * d + r * r +
                         (1 + kOutputSteps) * (4 * p * r + 2 * p * p);
  return static_cast<double>(shape.pairs) * (2 * d * d + outputs);
}

}  // namespace mobe
