// The plan of compress and merge, with shapes that the options give or that are
// chosen by measurement.
#pragma once

#include <filesystem>

#include "cli/calibrate_options.h"
#include "compress/compress.h"

namespace mobe {

// With Split::kEven, or for a job that `out` holds already, nothing is
// measured: a choice belongs to its job. Else this takes a while, and what a
// calibration finds is written to `out`; with kYes it stays, for the job to
// use. `ranks` as for Compress; rank 0 chooses and tells the others.
enum class KeepMoments { kNo, kYes };
CompressPlan MakePlan(const OpenedModel& model, const CompressOptions& options,
                      const CalibrateOptions& calibrate,
                      const std::filesystem::path& out, KeepMoments keep,
                      const ProgressFn& progress, Ranks* ranks);

// What rank 0 chose, at another rank; StopWork when it ended without a choice.
CompressPlan ReceivePlan(const OpenedModel& model,
                         const CompressOptions& options, Ranks* ranks);

// Of the job in `part`, which compress --shard began.
CompressPlan PlanOfPart(const OpenedModel& model,
                        const CompressOptions& options,
                        const std::filesystem::path& part);

}  // namespace mobe
