// How a model is to be run.
#pragma once

#include <cstdint>
#include <optional>

#include "kernels/linear.h"
#include "model/cache_format.h"
#include "tensor/format.h"

namespace mobe {

// How the experts of a layer are run (expert_executor.h).
enum class ExpertMode {
  kAuto,      // what memory allows
  kBuilt,     // of factored ones every W is computed
  kFused,     // as they are stored; of a plain model this is the only way
  kCached,    // the most used are built
  kStreamed,  // read from the disk when they are needed
};
const char* ExpertModeName(ExpertMode mode);  // as --experts has it

// Built experts in float32, in which they are computed.
inline constexpr NumberFormat kExactBuilt = NumberFormat::kF32;
// In what A is stored in: what text needs.
inline constexpr std::optional<NumberFormat> kTextBuilt = std::nullopt;

struct LoadOptions {
  // Of products with weights; nothing: the faster (FasterPrecision).
  std::optional<Precision> precision = Precision::kFloat32;
  ExpertMode experts = ExpertMode::kAuto;
  // Of what attention keeps of texts.
  CacheFormat cache = kExactCache;
  // Of experts that are built; nothing: as ExpertBuilder has it.
  std::optional<NumberFormat> built = kExactBuilt;
  // Bytes that the process may take, and does not exceed; 0: what there is.
  int64_t memory = 0;
  // Tokens of the contexts that are kept at a time, for which memory is
  // planned.
  int64_t cache_tokens = 4096;
  // Texts of which states of delta nets are kept at a time, likewise, if the
  // model has such.
  int64_t sequences = 1;
};

// Of commands that write text: fast, where those that measure are exact.
inline const LoadOptions kTextOptions = {
    .precision = std::nullopt, .cache = kTextCache, .built = kTextBuilt};

}  // namespace mobe
