#include "model/cache_format.h"

#include <algorithm>

#include "kernels/kernels.h"

namespace mobe {
namespace {

float StoreFloat32(const float* x, int64_t count, void* to) {
  std::copy_n(x, count, static_cast<float*>(to));
  return 1;
}
void LoadFloat32(const void* from, int64_t count, float* to) {
  std::copy_n(static_cast<const float*>(from), count, to);
}

float StoreBFloat16(const float* x, int64_t count, void* to) {
  Kernels().to_bfloat16(x, count, static_cast<BFloat16*>(to));
  return 1;
}
void LoadBFloat16(const void* from, int64_t count, float* to) {
  Kernels().from_bfloat16(static_cast<const BFloat16*>(from), count, to);
}

float StoreInt8(const float* x, int64_t count, void* to) {
  return Kernels().to_int8(x, count, static_cast<int8_t*>(to)).scale;
}
void LoadInt8(const void* from, int64_t count, float* to) {
  Kernels().from_int8(static_cast<const int8_t*>(from), count, to);
}

}  // namespace

constexpr CacheFormat kCacheFormats[] = {
    {"f32", DType::kF32, false, StoreFloat32, LoadFloat32},
    {"bf16", DType::kBF16, false, StoreBFloat16, LoadBFloat16},
    {"int8", DType::kI8, true, StoreInt8, LoadInt8}};

}  // namespace mobe
