#include "fit/budget.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "fit/device.h"
#include "fit/method.h"

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

ProbeSize ProbeSizeOf(const FitShape& shape, const Method& solver,
                      int64_t workers) {
  // Of one worker: a second or two.
  constexpr double kOperations = 1e11;
  constexpr int64_t kFewest = 3;  // two whole passes lie between them
  constexpr int64_t kMost = 100;
  const double limit = kOperations * static_cast<double>(workers);
  ProbeSize size{kFewest, shape.experts, shape.num_bases};
  // Whole groups of the start, and no fewer than there are workers, as these
  // share groups and experts among them.
  const auto too_large = [&] {
    const FitShape part = Smaller(shape, size);
    return solver.operations(part).Total(kFewest) > limit;
  };
  while (size.num_bases > workers && too_large()) {
    size.num_bases = std::max(size.num_bases / 2, workers);
    size.experts = shape.experts * size.num_bases / shape.num_bases;
  }
  const FitParts part = solver.operations(Smaller(shape, size));
  size.passes = static_cast<int64_t>(std::clamp(limit / (part.pass + part.look),
                                                static_cast<double>(kFewest),
                                                static_cast<double>(kMost)));
  return size;
}

FitCost ProbeFit(const FitTarget& target, const FitShape& shape,
                 const FitOptions& options,
                 const std::function<void()>& on_pass) {
  ProbeSize size =
      ProbeSizeOf(shape, *options.solver, DeviceOf(options).workers());
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
  FitParts all = options.solver->operations(shape);
  FitParts done = options.solver->operations(Smaller(shape, size));
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
