// The last step of a compress job.
#pragma once

#include <filesystem>
#include <vector>

#include "base/json.h"
#include "compress/compress.h"

namespace mobe {

// Once every shard is written: writes all else that belongs to the model, the
// recipe and the model card among it, and config.json last. Then the model is
// whole. `records` are those of the plan's jobs, in order; the journal in `out`
// must still be there. The original's README.md becomes README.original.md.
void FinishModel(const OpenedModel& model, const CompressPlan& plan,
                 const std::filesystem::path& out,
                 const std::vector<Json>& records);

}  // namespace mobe
