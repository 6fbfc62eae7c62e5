#include "fit/method.h"

#include <algorithm>

#include "base/error.h"
#include "base/visible.h"
#include "fit/looks.h"
#include "fit/output_solve.h"

namespace mobe {
namespace {

constexpr const Method* kMethods[] = {&kFastSolver, &kReferenceSolver, &kSvd,
                                      &kMolae, &kD2Moe};

std::vector<const Method*> MethodsThat(bool are_baselines) {
  std::vector<const Method*> found;
  for (const Method* method : kMethods) {
    if (method->is_baseline() == are_baselines) found.push_back(method);
  }
  return found;
}

}  // namespace

std::vector<const Method*> Solvers() {
  return MethodsThat(/*are_baselines=*/false);
}
std::vector<const Method*> Baselines() {
  return MethodsThat(/*are_baselines=*/true);
}

const Method* FindMethod(std::string_view name) {
  for (const Method* method : kMethods) {
    if (name == method->name) return method;
  }
  return nullptr;
}

int64_t RankForBudget(const Method& baseline, FitShape shape, int64_t budget) {
  shape.rank = 0;
  const int64_t fixed = baseline.numbers(shape);
  shape.rank = 1;
  const int64_t first = baseline.numbers(shape);
  const int64_t rank =
      std::min((budget - fixed) / (first - fixed), baseline.max_rank(shape));
  if (rank < 1) {
    Fail(ErrorKind::kUserInput,
         "method {}: rank 1 takes {} numbers for the matrices of a layer, more "
         "than the {} that are allowed; keep a larger share",
         baseline.name, FormatCount(first), FormatCount(budget));
  }
  return rank;
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

int64_t NumbersOfFactors(const FitShape& shape) {
  const int64_t basis = shape.basis_rank == 0
                            ? shape.rank * shape.cols
                            : shape.basis_rank * (shape.rank + shape.cols);
  return shape.experts * (shape.rows * shape.rank + shape.num_bases) +
         shape.num_bases * basis;
}

}  // namespace mobe
