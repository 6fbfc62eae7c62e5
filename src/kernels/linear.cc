#include "kernels/linear.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "base/progress.h"
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

bool RunsInIntegers(const LinearJob& job) {
  return job.w.packed() && job.trans == Trans::kNo;
}

bool RunsInBFloat16(const LinearJob& job, Precision precision) {
  return precision == Precision::kBFloat16 &&
         job.w.format != NumberFormat::kF32 && !RunsInIntegers(job) &&
         HasBFloat16();
}

// For AMX weights are worth being packed, as oneDNN does.
bool RunsInLanes(const LinearJob& job) {
  static const bool lanes = HasTokenLanes() && !HasAmxBFloat16();
  return lanes && job.trans == Trans::kNo;
}

// Inputs in bfloat16: in lanes, or the rows of x one after another.
struct BFloat16Inputs {
  bool in_lanes = false;
  TokenLanes lanes;
  Buffer<BFloat16> rows;
};

// The inputs of the jobs that run in bfloat16, rounded; neighbours that read
// the same x alike share. Returns each job's, which `pool` holds (null for the
// others).
std::vector<const BFloat16Inputs*> RoundToBFloat16(
    std::span<const LinearJob> jobs, Precision precision,
    std::deque<BFloat16Inputs>* pool) {
  struct Block {
    const LinearJob* job;
    BFloat16Inputs* to;
    int64_t index;
  };
  std::vector<Block> blocks;
  std::vector<const BFloat16Inputs*> inputs(jobs.size(), nullptr);
  size_t used = 0;
  const LinearJob* previous = nullptr;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const LinearJob& job = jobs[i];
    if (!RunsInBFloat16(job, precision) || job.tokens == 0) continue;
    if (previous != nullptr && previous->x == job.x &&
        previous->tokens == job.tokens && previous->inputs() == job.inputs() &&
        RunsInLanes(*previous) == RunsInLanes(job)) {
      inputs[i] = inputs[static_cast<size_t>(previous - jobs.data())];
      continue;
    }
    previous = &job;
    if (used == pool->size()) pool->emplace_back();
    BFloat16Inputs& to = (*pool)[used++];
    to.in_lanes = RunsInLanes(job);
    if (to.in_lanes) {
      to.lanes.Resize(job.tokens, job.inputs());
    } else {
      to.rows.Resize(job.tokens * job.inputs());
    }
    inputs[i] = &to;
    for (int64_t t = 0; t < job.tokens; t += kLaneTokens) {
      blocks.push_back({&job, &to, t / kLaneTokens});
    }
  }
  ParallelFor(std::ssize(blocks), [&](int64_t i) {
    const auto& [job, to, index] = blocks[static_cast<size_t>(i)];
    if (to->in_lanes) {
      to->lanes.Pack(job->x, index);
      return;
    }
    const int64_t first = index * kLaneTokens;
    const int64_t tokens = std::min(kLaneTokens, job->tokens - first);
    Kernels().to_bfloat16(job->x + first * job->inputs(),
                          tokens * job->inputs(),
                          to->rows.data() + first * job->inputs());
  });
  return inputs;
}

// The inputs of the jobs that run in integers, rounded; neighbours that read
// the same x share. Returns each job's, which `pool` holds (null for the
// others).
std::vector<const RoundedInputs*> RoundToIntegers(
    std::span<const LinearJob> jobs, std::deque<RoundedInputs>* pool) {
  struct Token {
    const LinearJob* job;
    RoundedInputs* to;
    int64_t index;
  };
  std::vector<Token> tokens;
  std::vector<const RoundedInputs*> inputs(jobs.size(), nullptr);
  size_t used = 0;
  const LinearJob* previous = nullptr;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const LinearJob& job = jobs[i];
    if (!RunsInIntegers(job) || job.tokens == 0) continue;
    const FormatRow& format = RowOf(job.w.format);
    if (previous != nullptr && previous->x == job.x &&
        previous->tokens == job.tokens && previous->w.cols == job.w.cols &&
        previous->w.format == job.w.format) {
      inputs[i] = inputs[static_cast<size_t>(previous - jobs.data())];
      continue;
    }
    previous = &job;
    if (used == pool->size()) pool->emplace_back();
    RoundedInputs& to = (*pool)[used++];
    to.Resize(format, job.w.cols, job.tokens);
    inputs[i] = &to;
    for (int64_t t = 0; t < job.tokens; ++t) tokens.push_back({&job, &to, t});
  }
  ParallelRanges(static_cast<int64_t>(tokens.size()), kRoundTokens,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t i = begin; i < end; ++i) {
                     const auto& [job, to, t] = tokens[static_cast<size_t>(i)];
                     RoundToInt15(RowOf(job->w.format),
                                  job->x + t * job->w.cols, job->w.cols, t, to);
                   }
                 });
  return inputs;
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

// The outputs [begin, end) of one job.
void MultiplyOutputs(const LinearJob& job, const RoundedInputs* integers,
                     const BFloat16Inputs* rounded, int64_t begin,
                     int64_t end) {
  const WeightView rows =
      job.trans == Trans::kNo ? job.w.Rows(begin, end - begin) : WeightView();
  float* const y = job.y + begin;
  if (integers != nullptr) {
    Dots().multiply(rows, *integers, 0, job.tokens, y, job.w.rows);
  } else if (rounded != nullptr && rounded->in_lanes) {
    MultiplyTokenLanes(BFloat16Panel(rows, 0, rows.cols).data, end - begin,
                       rounded->lanes, y, job.w.rows);
  } else if (rounded != nullptr) {
    MultiplyByDnnl(job, rounded->rows.data(), begin, end);
  } else if (job.trans == Trans::kYes) {
    MultiplyColumns(job, begin, end - begin);
  } else {
    Kernels().mat_vec(rows, job.x, rows.cols, job.tokens, y, job.w.rows);
  }
}

}  // namespace

void LinearBatch(std::span<const LinearJob> jobs, Precision precision) {
  struct Task {
    size_t job;
    int64_t begin;
  };
  std::vector<Task> tasks;
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (jobs[i].tokens == 0) continue;
    for (int64_t begin = 0; begin < jobs[i].outputs(); begin += kLinearRows) {
      tasks.push_back({i, begin});
    }
  }
  thread_local std::deque<BFloat16Inputs> rounded_pool;
  const std::vector<const BFloat16Inputs*> rounded =
      RoundToBFloat16(jobs, precision, &rounded_pool);
  thread_local std::deque<RoundedInputs> integer_pool;
  const std::vector<const RoundedInputs*> integers =
      RoundToIntegers(jobs, &integer_pool);
  ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    const auto& [job, begin] = tasks[static_cast<size_t>(i)];
    MultiplyOutputs(jobs[job], integers[job], rounded[job], begin,
                    std::min(begin + kLinearRows, jobs[job].outputs()));
  });
}

void Linear(const WeightView& w, const float* x, int64_t tokens,
            Precision precision, float* y) {
  const LinearJob job{w, x, tokens, y, Trans::kNo};
  LinearBatch({&job, 1}, precision);
}

Precision FasterPrecision() {
  static const Precision faster = [] {
    if (!HasBFloat16()) return Precision::kFloat32;
    constexpr int64_t kTokens = 256, kSize = 1024;
    Buffer<float> x(kTokens * kSize);
    Buffer<float> y(kTokens * kSize);
    Buffer<BFloat16> w(kSize * kSize);
    for (int64_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7);
    for (int64_t i = 0; i < w.size(); i += x.size()) {
      Kernels().to_bfloat16(x.data(), std::min(x.size(), w.size() - i),
                            w.data() + i);
    }
    const WeightView view{NumberFormat::kBF16, w.data(), kSize, kSize};
    const auto seconds = [&](Precision precision) {
      // The first time, oneDNN generates its code.
      double least = std::numeric_limits<double>::infinity();
      for (int i = 0; i < 3; ++i) {
        const double start = MonotonicSeconds();
        Linear(view, x.data(), kTokens, precision, y.data());
        least = std::min(least, MonotonicSeconds() - start);
      }
      return least;
    };
    return seconds(Precision::kBFloat16) * 1.25 < seconds(Precision::kFloat32)
               ? Precision::kBFloat16
               : Precision::kFloat32;
  }();
  return faster;
}

}  // namespace mobe
