// One job of a compression: the matrices of one kind of one layer, read, fitted
// and stored.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "base/json.h"
#include "mobe/compress.h"

namespace mobe::internal {

// The options of one job's fit, but for its passes, and the start that they
// point to, if one was given.
struct StartedFit {
  FitOptions options;
  std::unique_ptr<Factors> start;
};
StartedFit StartOf(const CompressPlan& plan, const FactorJob& job,
                   const FitTarget& target);

// Fits one job of the model in `out` and stores its factors in `path`. Returns
// its record (journal.h).
Json RunJob(const OpenedModel& model, const CompressPlan& plan,
            const FactorJob& job, int64_t passes,
            const std::filesystem::path& out, const std::filesystem::path& path,
            const PassFn& on_pass);

}  // namespace mobe::internal
