#include "kernels/gemm.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <deque>
#include <limits>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "kernels/dot.h"
#include "kernels/expand.h"
#include "kernels/kernels.h"

namespace mobe {
namespace {

// A runtime error is that of code which found no memory to be generated in.
[[noreturn]] void FailDnnl(const char* what, int status) {
  if (status == dnnl_out_of_memory || status == dnnl_runtime_error) {
    Fail(ErrorKind::kOutOfMemory, "oneDNN has no memory for {}", what);
  }
  Fail(ErrorKind::kInternal, "oneDNN {} failed with status {}", what, status);
}

thread_local volatile std::sig_atomic_t t_inside = 0;

struct Inside {
  Inside() { t_inside = 1; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  ~Inside() { t_inside = 0; }
};

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// c = alpha op(a) op(b) + beta c.
void ScaledGemm(Trans trans_a, Trans trans_b, int64_t m, int64_t n, int64_t k,
                float alpha, const float* a, int64_t lda, const float* b,
                int64_t ldb, float beta, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  const Inside inside;
  const auto status = dnnl_sgemm(trans_a == Trans::kYes ? 'T' : 'N',
                                 trans_b == Trans::kYes ? 'T' : 'N', m, n, k,
                                 alpha, a, lda, b, ldb, beta, c, ldc);
  if (status != dnnl_success) FailDnnl("sgemm", status);
}

using dnnl::memory;

// oneDNN 3 dropped the descriptor of the operation.
dnnl::matmul::primitive_desc Describe(const memory::desc& a,
                                      const memory::desc& b,
                                      const memory::desc& c) {
#if DNNL_VERSION_MAJOR >= 3
  return {Engine(), a, b, c};
#else
  return {dnnl::matmul::desc(a, b, c), Engine()};
#endif
}

struct Product {
  memory::desc a, b, c;
  dnnl::matmul primitive;
};

// oneDNN compiles a primitive for each shape; a thread keeps its own, because
// concurrent executions of one primitive would share its scratchpad.
class ProductCache {
 public:
  using Key = std::array<int64_t, 8>;

  const Product& Get(const Key& key) {
    const auto found = products_.find(key);
    if (found != products_.end()) return found->second;
    const auto [trans_a, trans_b, m, n, k, lda, ldb, ldc] = key;
    const memory::dims a_strides =
        trans_a ? memory::dims{1, lda} : memory::dims{lda, 1};
    const memory::dims b_strides =
        trans_b ? memory::dims{1, ldb} : memory::dims{ldb, 1};
    const memory::desc a({m, k}, memory::data_type::bf16, a_strides);
    const memory::desc b({k, n}, memory::data_type::bf16, b_strides);
    const memory::desc c({m, n}, memory::data_type::f32, {ldc, 1});
    Product product{a, b, c, dnnl::matmul(Describe(a, b, c))};
    // Prompt lengths vary, and with them shapes; the bound keeps a server's
    // memory flat at the price of a rare recompilation.
    constexpr size_t kMaxProducts = 256;
    if (products_.size() >= kMaxProducts) products_.clear();
    return products_.emplace(key, std::move(product)).first->second;
  }

 private:
  std::map<Key, Product> products_;
};

// Outputs (rows of w) that one task of LinearBatch computes: enough for the
// product to run at full speed, few enough that a block of float32 weights
// stays in the cache.
constexpr int64_t kLinearRows = 64;
// Elements that one task rounds to bfloat16.
constexpr int64_t kRoundGrain = 1 << 16;
// Tokens that one task rounds to integers: a decoding token's experts are not
// worth a fork.
constexpr int64_t kRoundTokens = 16;

bool RunsInIntegers(const LinearJob& job) {
  return job.w.packed() && job.trans == Trans::kNo;
}

// oneDNN numbers its instruction sets as sets of bits.
bool Supports(dnnl_cpu_isa_t instructions) {
  const auto bits = static_cast<unsigned>(instructions);
  return (static_cast<unsigned>(dnnl_get_effective_cpu_isa()) & bits) == bits;
}

bool RunsInBFloat16(const LinearJob& job, Precision precision) {
  return precision == Precision::kBFloat16 &&
         job.w.format != NumberFormat::kF32 && !RunsInIntegers(job) &&
         HasBFloat16();
}

// Rounds the inputs of the jobs that run in bfloat16 into one buffer;
// neighbours that read the same x share. Returns each job's place (null for the
// others).
std::vector<const BFloat16*> RoundInputs(std::span<const LinearJob> jobs,
                                         Precision precision,
                                         Buffer<BFloat16>* buffer) {
  struct Piece {
    const float* x;
    int64_t count;
    int64_t at;
  };
  std::vector<Piece> pieces;
  std::vector<int64_t> starts(jobs.size(), -1);
  int64_t used = 0;
  const LinearJob* previous = nullptr;
  for (size_t i = 0; i < jobs.size(); ++i) {
    const LinearJob& job = jobs[i];
    if (!RunsInBFloat16(job, precision)) continue;
    const int64_t count = job.tokens * job.inputs();
    if (previous != nullptr && previous->x == job.x &&
        previous->tokens * previous->inputs() == count) {
      starts[i] = starts[static_cast<size_t>(previous - jobs.data())];
      continue;
    }
    previous = &job;
    starts[i] = used;
    for (int64_t begin = 0; begin < count; begin += kRoundGrain) {
      pieces.push_back(
          {job.x + begin, std::min(kRoundGrain, count - begin), used + begin});
    }
    used += count;
  }
  if (used > 0) buffer->Resize(used);
  BFloat16* rounded = buffer->data();
  ParallelFor(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    Kernels().to_bfloat16(piece.x, piece.count, rounded + piece.at);
  });
  std::vector<const BFloat16*> places(jobs.size(), nullptr);
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (starts[i] >= 0) places[i] = rounded + starts[i];
  }
  return places;
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

// The outputs [begin, end) of a job whose inputs were rounded.
void MultiplyRounded(const LinearJob& job, const BFloat16* x, int64_t begin,
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

// The outputs [begin, end) of one job; `rounded` is x in bfloat16, or null.
void MultiplyOutputs(const LinearJob& job, const BFloat16* rounded,
                     int64_t begin, int64_t end) {
  if (rounded != nullptr) {
    MultiplyRounded(job, rounded, begin, end);
  } else if (job.trans == Trans::kYes) {
    MultiplyColumns(job, begin, end - begin);
  } else {
    Kernels().mat_vec(job.w.Rows(begin, end - begin), job.x, job.w.cols,
                      job.tokens, job.y + begin, job.w.rows);
  }
}

}  // namespace

bool IsInsideProduct() { return t_inside != 0; }

int GemmInstructions() {
  return static_cast<int>(dnnl::get_effective_cpu_isa());
}

void Gemm(Trans trans_a, Trans trans_b, int64_t m, int64_t n, int64_t k,
          const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
          float* c, int64_t ldc) {
  ScaledGemm(trans_a, trans_b, m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
}

void GemmSubtract(Trans trans_a, Trans trans_b, int64_t m, int64_t n, int64_t k,
                  const float* a, int64_t lda, const float* b, int64_t ldb,
                  float* c, int64_t ldc) {
  ScaledGemm(trans_a, trans_b, m, n, k, -1.0f, a, lda, b, ldb, 1.0f, c, ldc);
}

void GemmBFloat16(Trans trans_a, Trans trans_b, int64_t m, int64_t n, int64_t k,
                  const BFloat16* a, int64_t lda, const BFloat16* b,
                  int64_t ldb, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  const Inside inside;
  thread_local ProductCache cache;
  thread_local dnnl::stream stream(Engine());
  try {
    const Product& product =
        cache.Get({trans_a == Trans::kYes, trans_b == Trans::kYes, m, n, k, lda,
                   ldb, ldc});
    const auto bind = [](const memory::desc& desc, const void* data) {
      return memory(desc, Engine(), const_cast<void*>(data));
    };
    product.primitive.execute(stream, {{DNNL_ARG_SRC, bind(product.a, a)},
                                       {DNNL_ARG_WEIGHTS, bind(product.b, b)},
                                       {DNNL_ARG_DST, bind(product.c, c)}});
    stream.wait();
  } catch (const dnnl::error& e) {
    FailDnnl("matmul", e.status);
  }
}

bool HasBFloat16() { return Supports(dnnl_cpu_isa_avx512_core); }

bool HasFastBFloat16() { return Supports(dnnl_cpu_isa_avx512_core_bf16); }

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
  thread_local Buffer<BFloat16> buffer;
  const std::vector<const BFloat16*> rounded =
      RoundInputs(jobs, precision, &buffer);
  thread_local std::deque<RoundedInputs> pool;
  const std::vector<const RoundedInputs*> integers =
      RoundToIntegers(jobs, &pool);
  ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    const Task& task = tasks[static_cast<size_t>(i)];
    const LinearJob& job = jobs[task.job];
    const int64_t end = std::min(task.begin + kLinearRows, job.outputs());
    if (const RoundedInputs* inputs = integers[task.job]) {
      Dots().multiply(job.w.Rows(task.begin, end - task.begin), *inputs, 0,
                      job.tokens, job.y + task.begin, job.w.rows);
    } else {
      MultiplyOutputs(job, rounded[task.job], task.begin, end);
    }
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
