#include "compress/bases_rounding.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/limits.h"
#include "base/parallel.h"
#include "fit/refit.h"
#include "tensor/packed.h"
#include "tensor/packed_bases.h"

namespace mobe {
namespace {

// A row of all bases together (tensor/packed_bases.h).
void RoundTogether(const Buffer<float>& bases, int64_t num_bases, int64_t rank,
                   int64_t cols, RoundedMatrix* rounded) {
  const PackedBases row{nullptr, nullptr, num_bases, 1, cols};
  rounded->codes.Resize(rank * row.row_bytes());
  rounded->scales.Resize(rank * row.row_scale_bytes());
  ParallelFor(rank, [&](int64_t r) {
    thread_local Buffer<float> given;
    given.Resize(num_bases * cols);
    for (int64_t i = 0; i < num_bases; ++i) {
      std::copy_n(bases.data() + (i * rank + r) * cols, cols,
                  given.data() + i * cols);
    }
    std::byte* const codes = rounded->codes.data() + r * row.row_bytes();
    std::byte* const scales =
        rounded->scales.data() + r * row.row_scale_bytes();
    EncodeBasesRow(row, given.data(), codes, scales);
    const PackedBases stored{codes, scales, num_bases, 1, cols};
    for (int64_t i = 0; i < num_bases; ++i) {
      DecodeBases(stored, i, 0, 0, cols,
                  rounded->values.data() + (i * rank + r) * cols);
    }
  });
}

// As a matrix of all their rows (tensor/packed.h).
void RoundRows(const FormatRow& format, const Buffer<float>& bases,
               int64_t rows, int64_t cols, RoundedMatrix* rounded) {
  const PackedSizes sizes = PackedSizesOf(format, cols);
  const int64_t blocks = RowBlocks(rows);
  rounded->codes.Resize(blocks * sizes.code_bytes);
  rounded->scales.Resize(blocks * sizes.scale_bytes());
  ParallelFor(blocks, [&](int64_t block) {
    const int64_t first = block * kPackedRows;
    const int64_t count = std::min(kPackedRows, rows - first);
    std::byte* const codes = rounded->codes.data() + block * sizes.code_bytes;
    std::byte* const scales =
        rounded->scales.data() + block * sizes.scale_bytes();
    EncodePacked(format, bases.data() + first * cols, count, cols, nullptr,
                 codes, scales);
    DecodePacked({format.format, codes, count, cols, scales}, 0, cols,
                 rounded->values.data() + first * cols);
  });
}

}  // namespace

void RoundBases(const FormatRow& format, const Buffer<float>& bases,
                int64_t num_bases, int64_t rank, int64_t cols,
                RoundedMatrix* rounded) {
  rounded->values.Resize(bases.size());
  if (format.has_bases) {
    RoundTogether(bases, num_bases, rank, cols, rounded);
  } else {
    RoundRows(format, bases, num_bases * rank, cols, rounded);
  }
}

std::string RefitText(const BasesJob& job, int64_t pass, int64_t passes) {
  return fmt::format("layer {} {}: pass {} of {} of its bases", job.layer,
                     job.kind->name, pass, passes);
}

MoveBasesFn RefitBases(int64_t passes, BasesPassFn on_pass) {
  if (passes == 0) return [](const BasesJob&, Factors*) {};
  return [passes, on_pass = std::move(on_pass)](const BasesJob& job,
                                                Factors* factors) {
    CheckMemory(RefitBytes(job.shape),
                fmt::format("the refit of layer {} {}, which --refit-passes 0 "
                            "does without,",
                            job.layer, job.kind->name));
    const FitTarget target = job.load_target();
    RoundedMatrix rounded;
    Refit(
        target, passes,
        [&](Buffer<float>* bases) {
          RoundBases(*job.format, *bases, factors->num_bases, factors->rank,
                     target.cols, &rounded);
          bases->CopyFrom(rounded.values);
        },
        [&](int64_t pass, int64_t all) { on_pass(job, pass, all); }, factors);
  };
}

}  // namespace mobe
