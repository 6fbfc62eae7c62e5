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
enum class Way { kFloats, kIntegers, kLanes, kDnnl };

Way WayOf(const LinearJob& job, const Arithmetic& math) {
  const bool has_lanes = HasTokenLanes();
  // Weights are worth being packed for AMX, as oneDNN does.
  static const bool has_amx = HasAmxBFloat16();
  const bool by_rows = job.trans == Trans::kNo;
  const NumberFormat format = job.w.format;
  if (job.w.packed() && by_rows) return Way::kIntegers;
  if (math.precision == Precision::kFloat32 || format == NumberFormat::kF32) {
    return Way::kFloats;
  }
  if (math.phase == Phase::kDecode) {
    return has_lanes && by_rows && format == NumberFormat::kBF16 ? Way::kLanes
                                                                 : Way::kFloats;
  }
  if (by_rows && has_lanes && !has_amx) return Way::kLanes;
  return HasBFloat16() ? Way::kDnnl : Way::kFloats;
}

// What tokens a way reads, rounded as it wants them.
struct RoundedTokens {
  Way way = Way::kFloats;
  RoundedInputs integers;
  // In bfloat16: of kLanes, and of kDnnl [tokens, inputs]; `size` numbers from
  // `place` on in the memory that all of a call share.
  TokenLanes lanes;
  int64_t place = 0;
  int64_t size = 0;
};

// Makes room; of what is in bfloat16, from `used` on.
void Resize(const LinearJob& job, int64_t used, RoundedTokens* to) {
  to->place = used;
  to->size = 0;
  if (to->way == Way::kIntegers) {
    to->integers.Resize(RowOf(job.w.format), job.w.cols, job.tokens);
  } else {
    to->lanes = {job.tokens, job.inputs()};
    to->size = to->way == Way::kLanes ? WholeLines(to->lanes.size())
                                      : job.tokens * job.inputs();
  }
}

// Rounds the tokens of a block: kLaneTokens, or what is left of them.
void RoundBlock(const LinearJob& job, int64_t block, RoundedTokens* to) {
  const int64_t size = job.inputs();
  const int64_t begin = block * kLaneTokens;
  const int64_t end = std::min(begin + kLaneTokens, job.tokens);
  switch (to->way) {
    case Way::kIntegers:
      for (int64_t t = begin; t < end; ++t) {
        RoundToInt15(RowOf(job.w.format), job.x + t * size, size, t,
                     &to->integers);
      }
      return;
    case Way::kLanes:
      return to->lanes.Pack(job.x, block);
    case Way::kDnnl:
      return Kernels().to_bfloat16(job.x + begin * size, (end - begin) * size,
                                   to->lanes.values + begin * size);
    case Way::kFloats:
      return;
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
    Resize(job, values, &to);
    values += to.size;
    rounded[i] = &to;
    for (int64_t t = 0; t < job.tokens; t += kLaneTokens) {
      blocks.push_back({&job, &to, t / kLaneTokens});
    }
    tokens += job.tokens;
  }
  pool->values.Resize(values);
  for (size_t i = 0; i < used; ++i) {
    pool->tokens[i].lanes.values = pool->values.data() + pool->tokens[i].place;
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

// A part of a weight matrix as a product reads it: in place, or expanded.
template <class T>
struct Panel {
  const T* data;
  int64_t stride;  // between rows
};

Panel<float> Float32Panel(const WeightView& w, int64_t first, int64_t count) {
  if (w.format == NumberFormat::kF32) {
    return {w.Row<float>(0) + first, w.cols};
  }
  thread_local Buffer<float> expanded;
  expanded.Resize(w.rows * count);
  ExpandColumns(w, first, count, expanded.data());
  return {expanded.data(), count};
}

Panel<BFloat16> BFloat16Panel(const WeightView& w, int64_t first,
                              int64_t count) {
  if (w.format == NumberFormat::kBF16) {
    return {w.Row<BFloat16>(0) + first, w.cols};
  }
  thread_local Buffer<BFloat16> rounded;
  rounded.Resize(w.rows * count);
  const Panel<float> panel = Float32Panel(w, first, count);
  Kernels().to_bfloat16(panel.data, rounded.size(), rounded.data());
  return {rounded.data(), count};
}

// y[t, c] = sum_r x[t, r] w[r, first + c] for c < count.
void MultiplyColumns(const LinearJob& job, int64_t first, int64_t count) {
  TileView tile;
  if (job.w.format == NumberFormat::kBF16) {
    tile = {DType::kBF16, job.w.Row<BFloat16>(0) + first, job.w.cols};
  } else {
    const Panel<float> panel = Float32Panel(job.w, first, count);
    tile = {DType::kF32, panel.data, panel.stride};
  }
  for (int64_t t = 0; t < job.tokens; ++t) {
    std::fill_n(job.y + t * job.outputs() + first, count, 0.0f);
  }
  Kernels().add_products(job.tokens, job.inputs(), count, job.x, job.inputs(),
                         tile, job.y + first, job.outputs());
}

// The outputs [begin, end) of a job by oneDNN, x in bfloat16.
void MultiplyByDnnl(const LinearJob& job, const BFloat16* x, int64_t begin,
                    int64_t end) {
  const bool by_rows = job.trans == Trans::kNo;
  // The weights of these outputs: rows of w, or columns.
  const WeightView w = by_rows ? job.w.Rows(begin, end - begin) : job.w;
  const int64_t count = by_rows ? w.cols : end - begin;
  const auto panel = BFloat16Panel(w, by_rows ? 0 : begin, count);
  const auto multiply = [&](int64_t tokens, const BFloat16* from, float* to) {
    GemmBFloat16(Trans::kNo, by_rows ? Trans::kYes : Trans::kNo, tokens,
                 end - begin, job.inputs(), from, job.inputs(), panel.data,
                 panel.stride, to, job.outputs());
  };
  if (job.tokens > 1) {
    multiply(job.tokens, x, job.y + begin);
    return;
  }
  // oneDNN adds up otherwise for a vector: a matrix of it and itself. The
  // distance of rows is that of many tokens, for it chooses by that, too.
  thread_local Buffer<BFloat16> inputs;
  thread_local Buffer<float> outputs;
  inputs.Resize(2 * job.inputs());
  outputs.Resize(2 * job.outputs());
  std::copy_n(x, job.inputs(), inputs.data());
  std::copy_n(x, job.inputs(), inputs.data() + job.inputs());
  multiply(2, inputs.data(), outputs.data());
  std::copy_n(outputs.data(), end - begin, job.y + begin);
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
      return MultiplyTokenLanes(BFloat16Panel(w, 0, w.cols).data, w.rows,
                                x->lanes, y, job.w.rows);
    case Way::kDnnl:
      return MultiplyByDnnl(job, x->lanes.values, begin, end);
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
  return HasTokenLanes() ? Precision::kBFloat16 : Precision::kFloat32;
}

}  // namespace mobe
