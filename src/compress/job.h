// One job of a compression: the matrices of one kind of one layer, read, fitted
// and stored. Groups of experts share no bases, so they are taken one after
// another, and only one is in memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "base/json.h"
#include "compress/compress.h"

namespace mobe::internal {

// The options of the fit of a job's group, but for its passes, and the start
// that they point to, if one was given.
struct StartedFit {
  FitOptions options;
  std::unique_ptr<Factors> start;
};
StartedFit StartOf(const CompressPlan& plan, const FactorJob& job,
                   const ExpertGroup& group, const FitTarget& target);

// Fits one job of the model in `out` on the device, and stores its factors in
// `path`. Returns its record (journal.h). From several threads at a time.
// `check` is asked where there are no passes, too, and may throw as `on_pass`
// may.
Json RunJob(const OpenedModel& model, const CompressPlan& plan,
            const FactorJob& job, int64_t passes, FitDevice* device,
            const std::filesystem::path& out, const std::filesystem::path& path,
            const PassFn& on_pass, const std::function<void()>& check);

}  // namespace mobe::internal
