// Compressing by a baseline, for comparison: the experts are approximated with
// as many bytes as MoBE would take, and written as a plain checkpoint.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/progress.h"
#include "compress/compress.h"
#include "fit/method.h"

namespace mobe {

// What the factors would take if they were stored, and MoBE's.
struct BaselineSize {
  int64_t rank = 0;  // of the first matrix kind; all are alike
  int64_t factor_bytes = 0;
  int64_t mobe_factor_bytes = 0;
  // What fitting them takes.
  int64_t fit_bytes = 0;
  double operations = 0;
};
// `baseline`: of the table in fit/method.h. Fails with kUserInput when rank 1
// takes more than MoBE, or when the plan is calibrated and the baseline can't
// be.
BaselineSize SizeBaseline(const CompressPlan& plan, const Method& baseline);

// Writes a plain model whose experts in plan.format.layers are approximated;
// the plan's solver and budget have no meaning here. Continues an interrupted
// run of the same. Fails with kUserInput when `out` holds something else, and
// with kOutOfMemory; throws Stopped. passes and resumed of the report are 0.
CompressReport CompressByBaseline(const OpenedModel& model,
                                  const CompressPlan& plan,
                                  const Method& baseline,
                                  const std::filesystem::path& out,
                                  const ProgressFn& progress);

}  // namespace mobe
