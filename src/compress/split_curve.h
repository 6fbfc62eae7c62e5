// How the error of one matrix kind falls with the number of bases and the rank:
// a few short fits, and a formula between them.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace mobe {

struct CurvePoint {
  int64_t num_bases = 0;
  int64_t rank = 0;
  double error = 0;  // squared Frobenius norm of W - What over that of W
};

// Of n experts with matrices of the width p (the smaller side).
//
// log error is close to linear in the rank, and nearly so in the number of
// bases: n = 32, p = 96, 8 bases, ranks 48, 64, 80, 96: -1.95, -2.38, -2.80,
// -3.25; rank 96, 2, 4, 8, 12, 16 bases: -2.48, -2.74, -3.25, -3.68, -4.09. So
// it is interpolated linearly in the bases at two ranks, and between and beyond
// these linearly in the rank.
class ErrorCurve {
 public:
  // Which shapes to fit, `error` empty: num_bases ascending within a rank, the
  // larger rank first.
  static std::vector<CurvePoint> Probes(int64_t experts, int64_t width);

  // Of the probes with their errors. Where one does not fall from probe to
  // probe (the fits are short) it is lowered until the curve falls everywhere.
  explicit ErrorCurve(const std::vector<CurvePoint>& probes);

  // In (0, 1], never rising with either argument, for ranks from half the width
  // and from the fewest bases of a probe: with fewer the error rises faster
  // than a line tells, most of all that of calibrated fits.
  double At(int64_t num_bases, int64_t rank) const;

 private:
  struct Row {
    int64_t rank;
    std::vector<int64_t> num_bases;
    std::vector<double> log_error;
    double At(int64_t m) const;  // m bases
  };
  std::vector<Row> rows_;  // one or two, the larger rank first
};

}  // namespace mobe
