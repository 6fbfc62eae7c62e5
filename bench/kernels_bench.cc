// Speed of every kernel set on one thread, beside the speed of plain reading
// and of fused multiply-adds: a kernel is done when it is near one of them.
//
//   kernels_bench --benchmark_filter=mat_vec
//
// GB/s counts each byte of the operands once, GFLOP/s two for a multiply-add.
// Names end in the shape: rows x cols x tokens, or the count. "share" is a
// kernel's bytes per second over those that read/ measured in the same run for
// data that is out of cache; it says something where the kernel's data is too.
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/matrix.h"
#include "base/progress.h"
#include "kernels/kernels.h"
#include "kernels/packed_mix.h"
#include "model/mix_batch.h"

namespace mobe {
namespace {

// Far more than the last-level cache of one core's cluster.
constexpr int64_t kReadBytes = int64_t{256} << 20;

double g_read_bytes_per_second = 0;

Buffer<float> RandomFloats(int64_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 0.1f);
  // A period of a prime number of values: fast to fill, nothing lines up.
  std::vector<float> period(65537);
  for (float& value : period) value = normal(random);
  Buffer<float> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = period[i % 65537];
  return values;
}

// `count` values as bytes. Those of FP8 are evenly spread over its numbers.
Buffer<char> RandomWeights(DType dtype, int64_t count) {
  if (dtype == DType::kF8E4M3) {
    Buffer<char> bytes(count);
    for (int64_t i = 0; i < count; ++i) {
      bytes[i] = static_cast<char>(i * i % 65537 % 127);
    }
    return bytes;
  }
  const Buffer<float> values = RandomFloats(count);
  Buffer<char> bytes(count * DTypeSize(dtype));
  StoreFloats(values.data(), count, dtype, bytes.data());
  return bytes;
}

void Report(benchmark::State& state, int64_t byte_count, int64_t operations) {
  const auto rounds = static_cast<double>(state.iterations());
  const auto bytes = static_cast<double>(byte_count);
  const auto flops = static_cast<double>(operations);
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(bytes * rounds * 1e-9, Counter::kIsRate);
  if (flops > 0) {
    state.counters["GFLOP/s"] =
        Counter(flops * rounds * 1e-9, Counter::kIsRate);
  }
  if (g_read_bytes_per_second > 0) {
    state.counters["share"] =
        Counter(bytes * rounds / g_read_bytes_per_second, Counter::kIsRate);
  }
}

// Sums 64-bit words: nothing but loads and one addition for each vector.
void Read(benchmark::State& state) {
  Buffer<uint64_t> words(kReadBytes / 8);
  for (int64_t i = 0; i < words.size(); ++i) words[i] = i;
  double seconds = 0;
  for (auto _ : state) {
    const double start = MonotonicSeconds();
    uint64_t sums[16] = {};
    for (int64_t i = 0; i < words.size(); i += 16) {
      for (int k = 0; k < 16; ++k) sums[k] += words[i + k];
    }
    benchmark::DoNotOptimize(sums);
    const double now = MonotonicSeconds() - start;
    seconds = seconds == 0 ? now : std::min(seconds, now);
  }
  Report(state, kReadBytes, 0);
  g_read_bytes_per_second = kReadBytes / seconds;
}

struct Product {
  DType dtype;
  int64_t rows, cols, tokens;
};

void MatVec(benchmark::State& state, const KernelSet& set, Product p) {
  const auto bytes = RandomWeights(p.dtype, p.rows * p.cols);
  WeightView w = {*FormatOf(p.dtype), bytes.data(), p.rows, p.cols};
  constexpr int64_t kBlock = 128;  // as published
  const auto scales = RandomFloats(p.rows * p.cols / (kBlock * kBlock));
  w.scales = scales.data();
  w.block_rows = w.block_cols = kBlock;
  w.scale_stride = p.cols / kBlock;
  const auto x = RandomFloats(p.tokens * p.cols);
  Buffer<float> y(p.tokens * p.rows);
  for (auto _ : state) {
    set.mat_vec(w, x.data(), p.cols, p.tokens, y.data(), p.rows);
    benchmark::ClobberMemory();
  }
  Report(state, w.bytes(), 2 * p.rows * p.cols * p.tokens);
}

struct Mix {
  DType dtype;
  int64_t num_bases, rank, cols, tokens;

  int64_t size() const { return num_bases * rank * cols; }
  BasesView View(const Buffer<char>& bytes) const {
    return {dtype, bytes.data(), num_bases, rank, cols};
  }
};

void BasisMix(benchmark::State& state, const KernelSet& set, Mix m) {
  const auto bytes = RandomWeights(m.dtype, m.size());
  const auto alpha = RandomFloats(m.num_bases);
  Buffer<float> out(m.rank * m.cols);
  for (auto _ : state) {
    set.basis_mix(m.View(bytes), alpha.data(), 0, out.size(), Activation::kSilu,
                  out.data());
    benchmark::ClobberMemory();
  }
  Report(state, bytes.size() + 4 * out.size(), 2 * m.size());
}

void MixMatVec(benchmark::State& state, const KernelSet& set, Mix m) {
  const auto bytes = RandomWeights(m.dtype, m.size());
  const auto alpha = RandomFloats(m.num_bases);
  const auto x = RandomFloats(m.tokens * m.cols);
  Buffer<float> u(m.tokens * m.rank);
  for (auto _ : state) {
    set.mix_mat_vec(m.View(bytes), alpha.data(), 0, m.rank, Activation::kSilu,
                    x.data(), m.cols, m.tokens, u.data(), m.rank);
    benchmark::ClobberMemory();
  }
  Report(state, bytes.size(), 2 * (m.size() + m.rank * m.cols * m.tokens));
}

// Random bases in 8 bits.
struct Packed {
  explicit Packed(const Mix& m)
      : view{nullptr, nullptr, m.num_bases, m.rank, m.cols} {
    codes.Resize(m.rank * view.row_bytes());
    scales.Resize(m.rank * view.row_scale_bytes());
    const auto values = RandomFloats(m.size());
    for (int64_t r = 0; r < m.rank; ++r) {
      EncodeBasesRow(view, values.data() + r * m.num_bases * m.cols,
                     codes.data() + r * view.row_bytes(),
                     scales.data() + r * view.row_scale_bytes());
    }
    view.codes = codes.data();
    view.scales = scales.data();
  }
  PackedBases view;
  Buffer<std::byte> codes, scales;
};

// Some experts, each of a few tokens.
struct Experts {
  Experts(const Mix& m, int64_t experts)
      : alpha(RandomFloats(experts * m.num_bases)),
        x(RandomFloats(experts * m.tokens * m.cols)),
        u(experts * m.tokens * m.rank) {
    for (int64_t e = 0; e < experts; ++e) {
      jobs.push_back({alpha.data() + e * m.num_bases,
                      x.data() + e * m.tokens * m.cols, m.tokens,
                      u.data() + e * m.tokens * m.rank});
    }
  }
  Buffer<float> alpha, x, u;
  std::vector<MixJob> jobs;
};

// GFLOP/s counts the multiply-adds of mixes and products as if they were of
// float32.
void PackedMixOf(benchmark::State& state, const PackedMixSet& set, Mix m,
                 int64_t experts) {
  const Packed packed(m);
  Experts e(m, experts);
  for (auto _ : state) {
    MultiplyPackedMix(set, packed.view, Activation::kSilu, e.jobs, 0, m.rank);
    benchmark::ClobberMemory();
  }
  Report(state, packed.view.bytes(),
         2 * experts * (m.size() + m.rank * m.cols * m.tokens));
}

// Gate and up of a layer, run fused by all threads: the bases come from memory,
// each layer of a model having its own.
void MixLayers(benchmark::State& state, const StoredBases& bases, Mix m,
               int64_t experts) {
  Experts e(m, experts);
  for (auto _ : state) {
    for (int kind = 0; kind < 2; ++kind) {
      MixBatch(bases, Activation::kSilu, Phase::kDecode, e.jobs);
    }
    benchmark::ClobberMemory();
  }
  Report(state, 2 * bases.bytes(),
         4 * experts * (m.size() + m.rank * m.cols * m.tokens));
}

// A triangle of `n` solved for `count` right-hand sides. Its diagonal is 1 and
// the rest small, so that values stay in range however often it is applied.
void SolveTriangle(benchmark::State& state, const KernelSet& set, int64_t n,
                   int64_t count) {
  auto t = RandomFloats(n * n);
  for (float& value : t) value *= 1e-6f;
  for (int64_t k = 0; k < n; ++k) t[k * (n + 1)] = 1;
  auto x = RandomFloats(n * count);
  for (auto _ : state) {
    set.solve_triangle(n, t.data(), n, 1, x.data(), count, count);
    benchmark::ClobberMemory();
  }
  Report(state, 4 * (n * n / 2 + n * count), n * n * count);
}

// Of a matrix near the identity, copied anew each time.
void Cholesky(benchmark::State& state, const KernelSet& set, int64_t n) {
  auto g = RandomFloats(n * n);
  for (float& value : g) value *= 1e-3f;
  for (int64_t k = 0; k < n; ++k) g[k * (n + 1)] = 1;
  Buffer<float> r;
  for (auto _ : state) {
    r.CopyFrom(g);
    benchmark::DoNotOptimize(set.cholesky(n, r.data(), n));
    benchmark::ClobberMemory();
  }
  Report(state, 4 * n * n / 2, n * n * n / 3);
}

// Functions of arrays: `streams` counts the floats read or written for each
// element.
void Elements(benchmark::State& state, int64_t count, int streams,
              const std::function<void(const float*, const float*, float*,
                                       float*)>& body) {
  const auto a = RandomFloats(count);
  const auto b = RandomFloats(count);
  auto c = RandomFloats(count);
  Buffer<float> d(count);
  std::memset(d.data(), 0, count * sizeof(float));
  for (auto _ : state) {
    body(a.data(), b.data(), c.data(), d.data());
    benchmark::ClobberMemory();
  }
  Report(state, int64_t{4} * streams * count, 0);
}

template <class Body>
void Register(const std::string& name, Body body) {
  benchmark::RegisterBenchmark(name.c_str(), body)
      ->Unit(benchmark::kMicrosecond);
}

void RegisterSet(const KernelSet& set) {
  const std::string name = set.name;
  for (const Product p : {Product{DType::kBF16, 2048, 768, 1},
                          {DType::kF32, 2048, 768, 1},
                          {DType::kBF16, 16384, 4096, 1},
                          {DType::kF32, 16384, 4096, 1},
                          {DType::kF8E4M3, 2048, 768, 1},
                          {DType::kF8E4M3, 16384, 4096, 1},
                          {DType::kF8E4M3, 2048, 7168, 1},
                          {DType::kF8E4M3, 16384, 4096, 8},
                          {DType::kBF16, 16384, 4096, 2},
                          {DType::kBF16, 16384, 4096, 4},
                          {DType::kBF16, 16384, 4096, 8},
                          {DType::kBF16, 2048, 768, 8}}) {
    Register(fmt::format("mat_vec/{}/{}/{}x{}x{}", name, DTypeName(p.dtype),
                         p.rows, p.cols, p.tokens),
             [&set, p](benchmark::State& s) { MatVec(s, set, p); });
  }
  for (const Mix m : {Mix{DType::kBF16, 32, 768, 2048, 1},
                      {DType::kF32, 32, 768, 2048, 1},
                      {DType::kBF16, 4, 768, 2048, 1},
                      {DType::kBF16, 64, 256, 7168, 1},
                      {DType::kBF16, 32, 8, 2048, 1}}) {
    Register(fmt::format("basis_mix/{}/{}/{}x{}x{}", name, DTypeName(m.dtype),
                         m.num_bases, m.rank, m.cols),
             [&set, m](benchmark::State& s) { BasisMix(s, set, m); });
  }
  for (const int64_t tokens : {1, 8}) {
    const Mix m = {DType::kBF16, 32, 768, 2048, tokens};
    Register(fmt::format("mix_mat_vec/{}/BF16/32x768x2048x{}", name, tokens),
             [&set, m](benchmark::State& s) { MixMatVec(s, set, m); });
  }
  for (const int64_t n : {int64_t{32}, int64_t{96}, kMaxTriangle}) {
    Register(fmt::format("cholesky/{}/{}", name, n),
             [&set, n](benchmark::State& s) { Cholesky(s, set, n); });
    Register(fmt::format("solve_triangle/{}/{}x256", name, n),
             [&set, n](benchmark::State& s) { SolveTriangle(s, set, n, 256); });
  }
  for (const int64_t count : {int64_t{4096}, int64_t{1} << 23}) {
    for (const Activation f : {Activation::kSilu, Activation::kTanh}) {
      Register(fmt::format("activate/{}/{}/{}", name, ActivationName(f), count),
               [&set, f, count](benchmark::State& s) {
                 Elements(s, count, 2, [&](auto* a, auto*, auto*, auto* d) {
                   set.activate(f, a, count, d);
                 });
               });
      Register(fmt::format("activate_backward/{}/{}/{}", name,
                           ActivationName(f), count),
               [&set, f, count](benchmark::State& s) {
                 Elements(s, count, 3, [&](auto* a, auto* b, auto*, auto* d) {
                   set.activate_backward(f, a, b, count, d);
                 });
               });
    }
    Register(fmt::format("swiglu/{}/{}", name, count),
             [&set, count](benchmark::State& s) {
               Elements(s, count, 3, [&](auto* a, auto* b, auto*, auto* d) {
                 set.swiglu(a, b, count, d);
               });
             });
    Register(fmt::format("adam/{}/{}", name, count),
             [&set, count](benchmark::State& s) {
               Buffer<float> second(count);
               std::fill(second.begin(), second.end(), 0.01f);
               const AdamStep step = {.step_size = 1e-6f};
               Elements(s, count, 7, [&](auto* a, auto*, auto* c, auto* d) {
                 set.adam(step, a, count, c, d, second.data());
               });
             });
    Register(fmt::format("subtract/{}/{}", name, count),
             [&set, count](benchmark::State& s) {
               Elements(s, count, 3, [&](auto* a, auto* b, auto*, auto* d) {
                 benchmark::DoNotOptimize(set.subtract(a, 1, b, count, d));
               });
             });
    Register(fmt::format("from_float8/{}/{}", name, count),
             [&set, count](benchmark::State& s) {
               const auto x = RandomWeights(DType::kF8E4M3, count);
               Buffer<float> y(count);
               for (auto _ : s) {
                 set.from_float8(reinterpret_cast<const Float8*>(x.data()),
                                 count, 0.1f, y.data());
                 benchmark::ClobberMemory();
               }
               Report(s, 5 * count, 0);
             });
    // 1.5 floats for each element: float32 on one side, bfloat16 on the other.
    Register(fmt::format("to_bfloat16/{}/{}", name, count),
             [&set, count](benchmark::State& s) {
               const auto x = RandomFloats(count);
               Buffer<BFloat16> y(count);
               for (auto _ : s) {
                 set.to_bfloat16(x.data(), count, y.data());
                 benchmark::ClobberMemory();
               }
               Report(s, 6 * count, 0);
             });
  }
}

void RegisterPackedMixes() {
  for (const PackedMixSet& set : SupportedPackedMixes()) {
    for (const Mix m :
         {Mix{DType::kU8, 32, 768, 2048, 1}, Mix{DType::kU8, 128, 256, 2048, 1},
          Mix{DType::kU8, 4, 768, 2048, 1},
          Mix{DType::kU8, 32, 768, 2048, 8}}) {
      for (const int64_t experts : {1, 8}) {
        Register(fmt::format("packed_mix/{}/{}x{}x{}x{}/{}", set.name,
                             m.num_bases, m.rank, m.cols, m.tokens, experts),
                 [&set, m, experts](benchmark::State& s) {
                   PackedMixOf(s, set, m, experts);
                 });
      }
    }
  }
}

// Of the width of Qwen3-30B, 8 experts of a token.
void RegisterMixLayers() {
  for (const int64_t tokens : {1, 8, 64}) {
    const Mix m = {DType::kBF16, 32, 768, 2048, tokens};
    const auto register_one = [&](const char* name, auto make) {
      Register(fmt::format("mix_layer/{}/32x768x2048x{}/8", name, tokens),
               [m, make](benchmark::State& s) { make(s, m); });
    };
    register_one("bf16", [](benchmark::State& s, const Mix& mix) {
      const auto bytes = RandomWeights(DType::kBF16, mix.size());
      MixLayers(s, StoredBases(mix.View(bytes)), mix, 8);
    });
    register_one("int8", [](benchmark::State& s, const Mix& mix) {
      const Packed packed(mix);
      MixLayers(s, StoredBases(packed.view), mix, 8);
    });
  }
}

}  // namespace
}  // namespace mobe

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  mobe::Register("read", mobe::Read);
  for (const mobe::KernelSet& set : mobe::SupportedKernels()) {
    mobe::RegisterSet(set);
  }
  mobe::RegisterPackedMixes();
  mobe::RegisterMixLayers();
  benchmark::RunSpecifiedBenchmarks();
}
