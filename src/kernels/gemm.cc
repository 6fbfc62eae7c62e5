#include "kernels/gemm.h"

#include <array>
#include <csignal>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>

#include "base/error.h"

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
    // The bound keeps memory flat where shapes vary, at the price of a rare
    // recompilation.
    constexpr size_t kMaxProducts = 256;
    if (products_.size() >= kMaxProducts) products_.clear();
    return products_.emplace(key, std::move(product)).first->second;
  }

 private:
  std::map<Key, Product> products_;
};

// oneDNN numbers its instruction sets as sets of bits.
bool Supports(dnnl_cpu_isa_t instructions) {
  const auto bits = static_cast<unsigned>(instructions);
  return (static_cast<unsigned>(dnnl_get_effective_cpu_isa()) & bits) == bits;
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

void GemmInt8(int64_t m, int64_t n, int64_t k, const uint8_t* a, int64_t lda,
              const int8_t* b, int64_t ldb, int32_t* c, int64_t ldc) {
  const Inside inside;
  const int32_t no_offset = 0;
  const auto status = dnnl_gemm_u8s8s32('N', 'N', 'F', m, n, k, 1.0f, a, lda, 0,
                                        b, ldb, 0, 0.0f, c, ldc, &no_offset);
  if (status != dnnl_success) FailDnnl("gemm of integers", status);
}

bool HasBFloat16() { return Supports(dnnl_cpu_isa_avx512_core); }

bool HasFastBFloat16() { return Supports(dnnl_cpu_isa_avx512_core_bf16); }

}  // namespace mobe
