#include "fit/budget.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "fit/metric.h"

namespace mobe {
namespace {

constexpr const char* kPassesForm = "a number of passes (500)";
constexpr const char* kTimeForm = "a time (90s, 10m, 2h)";

// Neither when the text is none of both.
Budget ReadBudget(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || !(value > 0 && value < 1e9)) return {};
  const std::string unit(rest, end);
  if (unit == "s") return {0, value};
  if (unit == "m") return {0, value * 60};
  if (unit == "h") return {0, value * 3600};
  const bool whole = unit.empty() && value >= 1 && value == std::floor(value);
  return {whole ? static_cast<int64_t>(value) : 0, 0};
}

// Each expert's moment from the pairs that it read.
double OperationsOfText(const FitShape& shape) {
  const auto d = static_cast<double>(shape.cols);
  return static_cast<double>(shape.pairs) * d * d;
}

FitShape Smaller(FitShape shape, const ProbeSize& size) {
  shape.experts = size.experts;
  shape.num_bases = size.num_bases;
  return shape;
}

}  // namespace

Budget ParseBudget(const std::string& text) {
  const Budget budget = ReadBudget(text);
  if (budget.passes > 0 || budget.seconds > 0) return budget;
  Fail(ErrorKind::kUserInput, "--budget {}: expected {} or {}", text,
       kPassesForm, kTimeForm);
}

Budget ParsePasses(const std::string& text) {
  const Budget budget = ReadBudget(text);
  if (budget.passes > 0) return budget;
  Fail(ErrorKind::kUserInput, "--passes {}: expected {}", text, kPassesForm);
}

Budget ParseTime(const std::string& text) {
  const Budget budget = ReadBudget(text);
  if (budget.seconds > 0) return budget;
  Fail(ErrorKind::kUserInput, "--time {}: expected {}", text, kTimeForm);
}

double FitParts::Total(int64_t passes) const {
  return fixed + pass * static_cast<double>(passes) +
         look * static_cast<double>(internal::FitMetric::Looks(passes));
}

FitParts OperationsOf(const FitShape& shape, Solver solver) {
  const auto n = static_cast<double>(shape.experts);
  const auto p = static_cast<double>(shape.rows);
  const auto d = static_cast<double>(shape.cols);
  const auto r = static_cast<double>(shape.rank);
  const auto m = static_cast<double>(shape.num_bases);
  const auto k = static_cast<double>(shape.basis_rank);
  const double height = n / m * p;  // of a group of the start
  FitParts result;
  // Mixing, and its transpose to bases and alpha.
  result.pass = 6 * n * m * r * d;
  if (solver == Solver::kReference) {
    result.pass += 6 * n * p * r * d;  // A N, and the gradients to A and N
    // R-SVD of each group (Golub and Van Loan, Matrix Computations, table of
    // the SVD's costs): 6 a b^2 + 20 b^3 for a >= b.
    const double a = std::max(height, d);
    const double b = std::min(height, d);
    result.fixed = m * (6 * a * b * b + 20 * b * b * b);
    return result;
  }
  // The start (spaces.cc): three products with a group; two
  // orthonormalisations, mostly of one round and a look at what it gave.
  result.fixed = m * (6 * r * height * d + 10 * r * r * d);
  // N N^T, W N^T; Cholesky and both triangular solves.
  double solve =
      n * (r * r * d + 2 * p * r * d + r * r * r / 3 + 2 * r * r * p);
  if (shape.pairs > 0) solve += 2 * n * r * d * d;  // N H
  // A N, A^T error.
  result.pass += solve + 4 * n * p * r * d;
  // The metric (metric.h): its use, and what it sees of some experts.
  result.pass += 2 * m * m * r * d + 2 * m * r * r * d + 2 * m * r * d * d;
  result.pass += 8 * m * r * d * k;  // low-rank bases (project.h)
  const double seen = std::min(n, static_cast<double>(internal::kLook));
  result.look =
      seen * (r * d * d + 2 * r * r * d + p * r * r) + d * d * d + r * r * r;
  result.fixed += 2 * (solve + 2 * n * m * r * d);
  if (shape.pairs > 0) {
    result.pass += 2 * n * r * d * d;  // the gradient times H^T
    result.look += 4 * d * d * d;      // H P H^T
    // W H; then the last solve (weighted_solve.h): each expert's moment, N and
    // W by it.
    result.fixed += 2 * n * p * d * d + OperationsOfText(shape) +
                    n * (2 * r * d * d + 4 * p * r * d);
  }
  return result;
}

ProbeSize ProbeSizeOf(const FitShape& shape, Solver solver, int64_t threads) {
  // Of one thread: a second or two.
  constexpr double kOperations = 1e11;
  constexpr int64_t kFewest = 3;  // two whole passes lie between them
  constexpr int64_t kMost = 100;
  const double limit = kOperations * static_cast<double>(threads);
  ProbeSize size{kFewest, shape.experts, shape.num_bases};
  // Whole groups of the start, and no fewer than there are threads, as these
  // share groups and experts among them.
  const auto too_large = [&] {
    const FitShape part = Smaller(shape, size);
    return OperationsOf(part, solver).Total(kFewest) > limit;
  };
  while (size.num_bases > threads && too_large()) {
    size.num_bases = std::max(size.num_bases / 2, threads);
    size.experts = shape.experts * size.num_bases / shape.num_bases;
  }
  const FitParts part = OperationsOf(Smaller(shape, size), solver);
  size.passes = static_cast<int64_t>(std::clamp(limit / (part.pass + part.look),
                                                static_cast<double>(kFewest),
                                                static_cast<double>(kMost)));
  return size;
}

FitCost ProbeFit(const FitTarget& target, const FitShape& shape,
                 const FitOptions& options,
                 const std::function<void()>& on_pass) {
  ProbeSize size = ProbeSizeOf(shape, options.solver, Threads());
  if (options.start != nullptr) {  // it is for all
    size.experts = shape.experts;
    size.num_bases = shape.num_bases;
  }
  FitTarget part;
  const bool whole = size.experts == shape.experts;
  if (!whole) {
    part.experts = size.experts;
    part.rows = target.rows;
    part.cols = target.cols;
    part.scale = target.scale;
    part.weights.Resize(part.experts * part.matrix_size());
    std::memcpy(part.weights.data(), target.weights.data(),
                part.weights.size() * sizeof(float));
    part.moment.CopyFrom(target.moment);
  }
  const FitTarget& probed = whole ? target : part;
  FitOptions few = options;
  few.passes = size.passes;
  few.num_bases = size.num_bases;
  few.max_alphas = std::min(few.max_alphas, few.num_bases);

  const double start = MonotonicSeconds();
  double first = start;
  double last = start;
  // From call to call lies one whole pass.
  const Factors factors = Fit(probed, few, [&](int64_t pass, int64_t, double) {
    last = MonotonicSeconds();
    if (pass == 1) first = last;
    on_pass();
  });
  MeasureFit(probed, factors);
  const double seconds = MonotonicSeconds() - start;

  // The passes of a probe are among those that look. It has read no text: what
  // the pairs cost at the end is as fast as the passes.
  FitParts all = OperationsOf(shape, options.solver);
  FitParts done = OperationsOf(Smaller(shape, size), options.solver);
  const double text = OperationsOfText(shape);
  all.fixed -= text;
  done.fixed -= text;
  const double each = (last - first) / static_cast<double>(size.passes - 1);
  const double fixed =
      std::max(seconds - each * static_cast<double>(size.passes), 0.0);
  const double rate = each / (done.pass + done.look);
  FitCost cost;
  cost.seconds = {fixed * all.fixed / done.fixed + rate * text, rate * all.pass,
                  rate * all.look};
  cost.passes = size.passes;
  cost.experts = size.experts;
  cost.probe_seconds = seconds;
  return cost;
}

int64_t PassesWithin(double seconds, const FitCost& cost, double units) {
  int64_t few = 1;
  int64_t many = 1'000'000'000;  // as many as can be asked for
  while (few < many) {
    const int64_t middle = few + (many - few + 1) / 2;
    if (units * cost.seconds.Total(middle) <= seconds) {
      few = middle;
    } else {
      many = middle - 1;
    }
  }
  return few;
}

}  // namespace mobe
