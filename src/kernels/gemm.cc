#include "kernels/gemm.h"

#include <algorithm>
#include <array>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "kernels/kernels.h"

namespace mobe {
namespace {

// Up to this many tokens a product is bound by reading the weights, which
// mat_vec does without oneDNN's repacking.
constexpr int64_t kMatVecTokens = 8;

[[noreturn]] void FailDnnl(const char* what, int status) {
  Fail(status == dnnl_out_of_memory ? ErrorKind::kOutOfMemory
                                    : ErrorKind::kInternal,
       "oneDNN {} failed with status {}", what, status);
}

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

// oneDNN compiles a primitive for each shape; a thread keeps its own, because
// concurrent executions of one primitive would share its scratchpad.
class MatMulCache {
 public:
  using Key = std::array<int64_t, 8>;

  const dnnl::matmul& Get(const Key& key) {
    const auto found = primitives_.find(key);
    if (found != primitives_.end()) return found->second;
    const auto [trans_a, trans_b, m, n, k, lda, ldb, ldc] = key;
    using dnnl::memory;
    const memory::dims a_strides =
        trans_a ? memory::dims{1, lda} : memory::dims{lda, 1};
    const memory::dims b_strides =
        trans_b ? memory::dims{1, ldb} : memory::dims{ldb, 1};
    const dnnl::matmul::desc desc(
        memory::desc({m, k}, memory::data_type::bf16, a_strides),
        memory::desc({k, n}, memory::data_type::bf16, b_strides),
        memory::desc({m, n}, memory::data_type::f32, {ldc, 1}));
    dnnl::matmul primitive({desc, Engine()});
    // Prompt lengths vary, and with them shapes; the bound keeps a server's
    // memory flat at the price of a rare recompilation.
    constexpr size_t kMaxPrimitives = 256;
    if (primitives_.size() >= kMaxPrimitives) primitives_.clear();
    return primitives_.emplace(key, std::move(primitive)).first->second;
  }

 private:
  std::map<Key, dnnl::matmul> primitives_;
};

// Rows of w that one task of Linear multiplies: enough for the product to run
// at full speed, few enough that a block of float32 weights stays in the cache.
constexpr int64_t kLinearRows = 64;

void LinearFloat32(const WeightView& w, const float* x, int64_t tokens,
                   float* y) {
  ParallelRanges(w.rows, kLinearRows, [&](int64_t begin, int64_t end) {
    thread_local Buffer<float> unpacked;
    const WeightView rows = w.Rows(begin, end - begin);
    const float* weights = static_cast<const float*>(rows.data);
    if (rows.dtype == DType::kBF16) {
      unpacked.Resize(rows.rows * rows.cols);
      Kernels().from_bfloat16(static_cast<const BFloat16*>(rows.data),
                              unpacked.size(), unpacked.data());
      weights = unpacked.data();
    }
    Gemm(Trans::kNo, Trans::kYes, tokens, rows.rows, w.cols, x, w.cols, weights,
         w.cols, 0.0f, y + begin, w.rows);
  });
}

void LinearBFloat16(const WeightView& w, const float* x, int64_t tokens,
                    float* y) {
  thread_local Buffer<BFloat16> rounded_buffer;
  rounded_buffer.Resize(tokens * w.cols);
  BFloat16* rounded = rounded_buffer.data();
  Kernels().to_bfloat16(x, tokens * w.cols, rounded);
  ParallelRanges(w.rows, kLinearRows, [&](int64_t begin, int64_t end) {
    const WeightView rows = w.Rows(begin, end - begin);
    GemmBFloat16(Trans::kNo, Trans::kYes, tokens, rows.rows, w.cols, rounded,
                 w.cols, static_cast<const BFloat16*>(rows.data), w.cols,
                 y + begin, w.rows);
  });
}

}  // namespace

void Gemm(Trans trans_a, Trans trans_b, int64_t m, int64_t n, int64_t k,
          const float* a, int64_t lda, const float* b, int64_t ldb, float beta,
          float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  const auto status = dnnl_sgemm(trans_a == Trans::kYes ? 'T' : 'N',
                                 trans_b == Trans::kYes ? 'T' : 'N', m, n, k,
                                 1.0f, a, lda, b, ldb, beta, c, ldc);
  if (status != dnnl_success) FailDnnl("sgemm", status);
}

void GemmBFloat16(Trans trans_a, Trans trans_b, int64_t m, int64_t n, int64_t k,
                  const BFloat16* a, int64_t lda, const BFloat16* b,
                  int64_t ldb, float* c, int64_t ldc) {
  if (m == 0 || n == 0) return;
  thread_local MatMulCache cache;
  thread_local dnnl::stream stream(Engine());
  try {
    const dnnl::matmul& product =
        cache.Get({trans_a == Trans::kYes, trans_b == Trans::kYes, m, n, k, lda,
                   ldb, ldc});
    const auto bind = [](const dnnl::memory::desc& desc, const void* data) {
      return dnnl::memory(desc, Engine(), const_cast<void*>(data));
    };
    const dnnl_primitive_desc_t raw = [&] {
      const_dnnl_primitive_desc_t desc = nullptr;
      dnnl_primitive_get_primitive_desc(product.get(), &desc);
      return const_cast<dnnl_primitive_desc_t>(desc);
    }();
    const auto desc_of = [&](dnnl_query_t what) {
      return dnnl::memory::desc(*dnnl_primitive_desc_query_md(raw, what, 0));
    };
    product.execute(
        stream, {{DNNL_ARG_SRC, bind(desc_of(dnnl_query_src_md), a)},
                 {DNNL_ARG_WEIGHTS, bind(desc_of(dnnl_query_weights_md), b)},
                 {DNNL_ARG_DST, bind(desc_of(dnnl_query_dst_md), c)}});
    stream.wait();
  } catch (const dnnl::error& e) {
    FailDnnl("matmul", e.status);
  }
}

void Linear(const WeightView& w, const float* x, int64_t tokens,
            Precision precision, float* y) {
  if (tokens <= kMatVecTokens) {
    ParallelRanges(w.rows, kLinearRows, [&](int64_t begin, int64_t end) {
      Kernels().mat_vec(w.Rows(begin, end - begin), x, w.cols, tokens,
                        y + begin, w.rows);
    });
  } else if (precision == Precision::kBFloat16 && w.dtype == DType::kBF16) {
    LinearBFloat16(w, x, tokens, y);
  } else {
    LinearFloat32(w, x, tokens, y);
  }
}

}  // namespace mobe
