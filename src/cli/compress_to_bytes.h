// compress --bytes and --bpw: factors are fitted, and the model is quantised
// with them at hand, each layer in the form that suits it (choose_bits.h); all
// in one job, which keeps the fit in its own folder until it ends.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/command.h"
#include "compress/compress.h"

namespace mobe {

// `fit` is of gate and up, in one process, with a calibration of all matrices;
// it is made with each number of `bases`, or, of none, with its own. Continues
// a job that was stopped.
void CompressToBytes(const OpenedModel& model, const CompressOptions& fit,
                     const std::vector<int64_t>& bases, int64_t bytes,
                     int64_t refit_passes, const std::string& out,
                     const CommonOptions& common);

}  // namespace mobe
