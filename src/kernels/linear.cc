#include "kernels/linear.h"

#include <algorithm>
#include <deque>
#include <vector>

#include "base/parallel.h"
#include "kernels/dot.h"
#include "kernels/expand.h"
#include "kernels/kernels.h"
#include "kernels/token_lanes.h"

namespace mobe {
namespace {

// Outputs (rows of w) that one task of LinearBatch computes: enough for the
// product to run at full speed, few enough that a block of float32 weights
// stays in the cache.
constexpr int64_t kLinearRows = 64;
// Tokens that one task rounds to integers: a decoding token's experts are not
// worth a fork.
constexpr int64_t kRoundTokens = 16;

// Who multiplies.
enum class Way { kFloats, kIntegers, kLanes };

Way WayOf(const LinearJob& job, const Arithmetic& math) {
  const NumberFormat format = job.w.format;
  const bool by_rows = job.trans == Trans::kNo;
  if (job.w.packed() && by_rows) return Way::kIntegers;
  if (math.precision == Precision::kFloat32 || format == NumberFormat::kF32 ||
      !HasLanes()) {
    return Way::kFloats;
  }
  // Whatever has to be expanded first is not worth it for few tokens.
  const bool in_place = by_rows && format == NumberFormat::kBF16;
  return in_place || math.phase == Phase::kPrefill ? Way::kLanes : Way::kFloats;
}

// What tokens a way reads, rounded as it wants them.
struct RoundedTokens {
  Way way = Way::kFloats;
  RoundedInputs integers;
  // From `place` on in the memory that all of a call share.
  TokenLanes lanes;
  int64_t place = 0;
};

// Makes room; of lanes, from *used on, which then follows them.
void Resize(const LinearJob& job, RoundedTokens* to, int64_t* used) {
  if (to->way == Way::kIntegers) {
    to->integers.Resize(RowOf(job.w.format), job.w.cols, job.tokens);
    return;
  }
  to->lanes = {job.tokens, job.inputs()};
  to->place = *used;
  *used += WholeLines(to->lanes.size());
}

// Rounds the tokens of a block: kLaneTokens, or what is left of them.
void RoundBlock(const LinearJob& job, int64_t block, RoundedTokens* to) {
  if (to->way == Way::kLanes) return to->lanes.Pack(job.x, block);
  const int64_t size = job.inputs();
  const int64_t begin = block * kLaneTokens;
  const int64_t end = std::min(begin + kLaneTokens, job.tokens);
  for (int64_t t = begin; t < end; ++t) {
    RoundToInt15(RowOf(job.w.format), job.x + t * size, size, t, &to->integers);
  }
}

// Memory of rounded tokens, used again by the next call.
struct RoundedPool {
  std::deque<RoundedTokens> tokens;
  Buffer<BFloat16> values;
};

// Rounds what the jobs read; neighbours that read the same x alike share.
// Returns each job's, which `pool` holds; null where floats are read.
std::vector<const RoundedTokens*> RoundTokens(std::span<const LinearJob> jobs,
                                              const Arithmetic& math,
                                              RoundedPool* pool) {
  struct Block {
    const LinearJob* job;
    RoundedTokens* to;
    int64_t index;
  };
  std::vector<Block> blocks;
  std::vector<const RoundedTokens*> rounded(jobs.size(), nullptr);
  size_t used = 0;
  int64_t tokens = 0;
  int64_t values = 0;
  const LinearJob* previous = nullptr;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const LinearJob& job = jobs[i];
    const Way way = WayOf(job, math);
    if (way == Way::kFloats || job.tokens == 0) continue;
    if (previous != nullptr && previous->x == job.x &&
        previous->tokens == job.tokens && previous->inputs() == job.inputs() &&
        previous->w.format == job.w.format &&
        pool->tokens[used - 1].way == way) {
      rounded[i] = &pool->tokens[used - 1];
      continue;
    }
    previous = &job;
    if (used == pool->tokens.size()) pool->tokens.emplace_back();
    RoundedTokens& to = pool->tokens[used++];
    to.way = way;
    Resize(job, &to, &values);
    rounded[i] = &to;
    for (int64_t t = 0; t < job.tokens; t += kLaneTokens) {
      blocks.push_back({&job, &to, t / kLaneTokens});
    }
    tokens += job.tokens;
  }
  pool->values.Resize(values);
  for (size_t i = 0; i < used; ++i) {
    RoundedTokens& to = pool->tokens[i];
    if (to.way == Way::kLanes) to.lanes.values = pool->values.data() + to.place;
  }
  const int64_t count = std::ssize(blocks);
  ParallelRanges(count, tokens <= kRoundTokens ? kRoundTokens : 1,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     const auto& [job, to, index] =
                         blocks[static_cast<size_t>(i)];
                     RoundBlock(*job, index, to);
                   }
                 });
  return rounded;
}

// The weights of the outputs [begin, end) of a job, each output's in a row.
const BFloat16* BFloat16Rows(const LinearJob& job, int64_t begin, int64_t end) {
  const bool by_rows = job.trans == Trans::kNo;
  const int64_t count = end - begin;
  if (by_rows && job.w.format == NumberFormat::kBF16) {
    return job.w.Row<BFloat16>(begin);
  }
  thread_local Buffer<float> expanded;
  thread_local Buffer<float> turned;
  thread_local Buffer<BFloat16> rounded;
  const float* rows = nullptr;
  expanded.Resize(job.inputs() * count);
  rounded.Resize(job.inputs() * count);
  if (by_rows) {
    ExpandWeights(job.w.Rows(begin, count), expanded.data());
    rows = expanded.data();
  } else {
    ExpandColumns(job.w, begin, count, expanded.data());
    turned.Resize(job.inputs() * count);
    Transpose(expanded.data(), job.inputs(), count, turned.data());
    rows = turned.data();
  }
  Kernels().to_bfloat16(rows, rounded.size(), rounded.data());
  return rounded.data();
}

// The columns [first, first + count) of a matrix, in place where they can be.
TileView ColumnsOf(const WeightView& w, int64_t first, int64_t count) {
  switch (w.format) {
    case NumberFormat::kF32:
      return {DType::kF32, w.Row<float>(0) + first, w.cols};
    case NumberFormat::kBF16:
      return {DType::kBF16, w.Row<BFloat16>(0) + first, w.cols};
    default:
      break;
  }
  thread_local Buffer<float> expanded;
  expanded.Resize(w.rows * count);
  ExpandColumns(w, first, count, expanded.data());
  return {DType::kF32, expanded.data(), count};
}

// y[t, c] = sum_r x[t, r] w[r, first + c] for c < count.
void MultiplyColumns(const LinearJob& job, int64_t first, int64_t count) {
  for (int64_t t = 0; t < job.tokens; ++t) {
    std::fill_n(job.y + t * job.outputs() + first, count, 0.0f);
  }
  Kernels().add_products(job.tokens, job.inputs(), count, job.x, job.inputs(),
                         ColumnsOf(job.w, first, count), job.y + first,
                         job.outputs());
}

// The outputs [begin, end) of one job; `x` is null where floats are read.
void MultiplyOutputs(const LinearJob& job, const RoundedTokens* x,
                     int64_t begin, int64_t end) {
  const bool by_rows = job.trans == Trans::kNo;
  const WeightView w = by_rows ? job.w.Rows(begin, end - begin) : job.w;
  float* const y = job.y + begin;
  switch (x == nullptr ? Way::kFloats : x->way) {
    case Way::kIntegers:
      return Dots().multiply(w, x->integers, 0, job.tokens, y, job.w.rows);
    case Way::kLanes:
      return Lanes().multiply(BFloat16Rows(job, begin, end), end - begin,
                              x->lanes, y, job.outputs());
    case Way::kFloats:
      if (!by_rows) return MultiplyColumns(job, begin, end - begin);
      return Kernels().mat_vec(w, job.x, w.cols, job.tokens, y, job.w.rows);
  }
}

// Rows of a task that a few tokens read in place, when tasks have so many rows
// in all: kernels ask ahead for what comes next in a task, so that the longer
// it is, the less they wait; and there should be some tasks for each thread.
// What a row gives does not depend on the task.
int64_t MostRows(int64_t rows) {
  constexpr int64_t kTasks = 8;  // of a thread
  const int64_t even = rows / (kTasks * Threads()) / kLinearRows * kLinearRows;
  return std::clamp(even, kLinearRows, 8 * kLinearRows);
}

}  // namespace

void LinearBatch(std::span<const LinearJob> jobs, const Arithmetic& math) {
  struct Task {
    size_t job;
    int64_t begin, end;
  };
  int64_t outputs = 0;
  for (const LinearJob& job : jobs) {
    if (job.tokens > 0) outputs += job.outputs();
  }
  const int64_t most = MostRows(outputs);
  std::vector<Task> tasks;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const LinearJob& job = jobs[i];
    if (job.tokens == 0) continue;
    const bool reads_long = math.phase == Phase::kDecode &&
                            job.tokens <= kFewTokens && job.trans == Trans::kNo;
    const int64_t rows = reads_long ? most : kLinearRows;
    for (int64_t begin = 0; begin < job.outputs(); begin += rows) {
      tasks.push_back({i, begin, std::min(begin + rows, job.outputs())});
    }
  }
  thread_local RoundedPool pool;
  const std::vector<const RoundedTokens*> rounded =
      RoundTokens(jobs, math, &pool);
  ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    const auto& [job, begin, end] = tasks[static_cast<size_t>(i)];
    MultiplyOutputs(jobs[job], rounded[job], begin, end);
  });
}

void Linear(const WeightView& w, const float* x, int64_t tokens,
            const Arithmetic& math, float* y) {
  LinearJob job{w, x, tokens};
  job.y = y;
  LinearBatch({&job, 1}, math);
}

Precision FasterPrecision() {
  return HasLanes() ? Precision::kBFloat16 : Precision::kFloat32;
}

}  // namespace mobe
