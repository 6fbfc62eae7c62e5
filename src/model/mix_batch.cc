#include "model/mix_batch.h"

#include <algorithm>

#include "base/parallel.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

// Up to this many tokens mix_mat_vec wins, which stores nothing; for more, the
// mix is stored and a matrix product has it.
constexpr int64_t kMatVecTokens = 8;
// Rows of N that one task stores for such a product.
constexpr int64_t kMixRows = 64;
// Of all bases together, what should stay in a core's second-level cache.
constexpr int64_t kCacheBytes = 512 << 10;

int64_t RowsPerTask(const BasesView& bases, std::span<const MixJob> jobs) {
  for (const MixJob& job : jobs) {
    if (job.tokens > kMatVecTokens) return kMixRows;
  }
  const int64_t row_bytes =
      bases.num_bases * bases.cols * DTypeSize(bases.dtype);
  return std::clamp<int64_t>(kCacheBytes / row_bytes, 1, kMixRows);
}

void MixAndMultiply(const BasesView& bases, Activation f, const MixJob& job,
                    int64_t begin, int64_t end) {
  thread_local Buffer<float> mixed;
  mixed.Resize((end - begin) * bases.cols);
  Kernels().basis_mix(bases, job.alpha, begin * bases.cols, mixed.size(), f,
                      mixed.data());
  Gemm(Trans::kNo, Trans::kYes, job.tokens, end - begin, bases.cols, job.x,
       bases.cols, mixed.data(), bases.cols, 0.0f, job.u + begin, bases.rank);
}

}  // namespace

void MixBatch(const BasesView& bases, Activation f,
              std::span<const MixJob> jobs) {
  ParallelRanges(
      bases.rank, RowsPerTask(bases, jobs), [&](int64_t begin, int64_t end) {
        for (const MixJob& job : jobs) {
          if (job.tokens > kMatVecTokens) {
            MixAndMultiply(bases, f, job, begin, end);
          } else {
            Kernels().mix_mat_vec(bases, job.alpha, begin, end - begin, f,
                                  job.x, bases.cols, job.tokens, job.u + begin,
                                  bases.rank);
          }
        }
      });
}

}  // namespace mobe
