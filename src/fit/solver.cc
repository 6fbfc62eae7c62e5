#include "fit/solver.h"

#include "fit/looks.h"

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
  return static_cast<double>(shape.pairs) * d * d;
}

}  // namespace mobe
