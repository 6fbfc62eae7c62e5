#include "compress/split_curve.h"

#include <algorithm>
#include <cmath>

namespace mobe {
namespace {

// Far below what any fit leaves; its logarithm is finite.
constexpr double kLeastError = 1e-9;

// The value at x on the line through two points.
double OnLine(double x0, double y0, double x1, double y1, double x) {
  return y0 + (y1 - y0) * (x - x0) / (x1 - x0);
}

}  // namespace

std::vector<CurvePoint> ErrorCurve::Probes(int64_t experts, int64_t width) {
  // Of the width, and of the number of experts. More bases than a half of them
  // would be larger than the plain matrices in every published model.
  constexpr double kRanks[] = {1, 2.0 / 3};
  constexpr double kBases[] = {1.0 / 16, 0.25, 0.5};
  std::vector<CurvePoint> probes;
  for (const double part_of_width : kRanks) {
    const auto rank = std::max<int64_t>(
        std::llround(part_of_width * static_cast<double>(width)), 1);
    if (!probes.empty() && probes.front().rank == rank) break;
    int64_t last = 0;
    for (const double part : kBases) {
      const auto bases = std::max<int64_t>(
          std::llround(part * static_cast<double>(experts)), 1);
      if (bases > last) probes.push_back({bases, rank, 0});
      last = bases;
    }
  }
  return probes;
}

ErrorCurve::ErrorCurve(const std::vector<CurvePoint>& probes) {
  for (const CurvePoint& probe : probes) {
    if (rows_.empty() || rows_.back().rank != probe.rank) {
      rows_.push_back({probe.rank, {}, {}});
    }
    Row& row = rows_.back();
    double log_error = std::log(std::clamp(probe.error, kLeastError, 1.0));
    if (!row.log_error.empty()) {
      log_error = std::min(log_error, row.log_error.back());
    }
    row.num_bases.push_back(probe.num_bases);
    row.log_error.push_back(log_error);
  }
  if (rows_.size() == 1) return;
  // On the line to p/2, 3/2 of the way from p to 2/3 p, the narrow row counts
  // three times as much as the wide one, which counts the other way: what falls
  // a third as much keeps falling there.
  const Row& wide = rows_.front();
  Row& narrow = rows_.back();
  for (size_t i = 1; i < narrow.log_error.size(); ++i) {
    const double fall = wide.log_error[i] - wide.log_error[i - 1];
    narrow.log_error[i] =
        std::min(narrow.log_error[i], narrow.log_error[i - 1] + fall / 3);
  }
}

double ErrorCurve::Row::At(int64_t m) const {
  if (num_bases.size() == 1) return log_error.front();
  // The piece that m lies in, or the one nearest to it.
  size_t i = 1;
  while (i + 1 < num_bases.size() && m > num_bases[i]) ++i;
  return OnLine(static_cast<double>(num_bases[i - 1]), log_error[i - 1],
                static_cast<double>(num_bases[i]), log_error[i],
                static_cast<double>(m));
}

double ErrorCurve::At(int64_t num_bases, int64_t rank) const {
  const Row& wide = rows_.front();
  double log_error = wide.At(num_bases);
  if (rows_.size() > 1) {
    const Row& narrow = rows_.back();
    // A smaller rank is never better, whatever short fits say.
    const double other = std::max(narrow.At(num_bases), log_error);
    log_error = OnLine(static_cast<double>(wide.rank), log_error,
                       static_cast<double>(narrow.rank), other,
                       static_cast<double>(rank));
  }
  return std::exp(std::min(log_error, 0.0));
}

}  // namespace mobe
