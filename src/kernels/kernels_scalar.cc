// The specification of every kernel: as plain as it can be written, summed in
// the order of the index.
#include <algorithm>
#include <cmath>

#include "kernels/kernels_internal.h"

namespace mobe {
namespace {

float Value(float value) { return value; }
float Value(BFloat16 value) { return ToFloat(value); }
float Value(Float16 value) { return ToFloat(value); }
float Value(Float8 value) { return ToFloat(value); }
float Value(int8_t value) { return value; }

float Sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
float Silu(float x) { return x / (1.0f + std::exp(-x)); }

float Apply(Activation f, float x) {
  switch (f) {
    case Activation::kSilu:
      return Silu(x);
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kIdentity:
      break;
  }
  return x;
}

float Derivative(Activation f, float x) {
  switch (f) {
    case Activation::kSilu: {
      const float s = Sigmoid(x);
      return s * (1.0f + x * (1.0f - s));
    }
    case Activation::kTanh: {
      const float t = std::tanh(x);
      return 1.0f - t * t;
    }
    case Activation::kIdentity:
      break;
  }
  return 1.0f;
}

template <class T>
void MatVecOf(const WeightView& w, const float* x, int64_t x_stride,
              int64_t tokens, float* y, int64_t y_stride) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t r = 0; r < w.rows; ++r) {
      const T* row = w.Row<T>(r);
      float sum = 0;
      for (int64_t c = 0; c < w.cols; ++c) {
        sum += Value(row[c]) * x[t * x_stride + c];
      }
      y[t * y_stride + r] = sum;
    }
  }
}

void MatVecFloat8(const WeightView& w, const float* x, int64_t x_stride,
                  int64_t tokens, float* y, int64_t y_stride) {
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t r = 0; r < w.rows; ++r) {
      const Float8* row = w.Row<Float8>(r);
      const float* scales = w.RowScales(r);
      float sum = 0;
      for (int64_t c = 0; c < w.cols; ++c) {
        sum += scales[c / w.block_cols] * Value(row[c]) * x[t * x_stride + c];
      }
      y[t * y_stride + r] = sum;
    }
  }
}

void MatVec(const WeightView& w, const float* x, int64_t x_stride,
            int64_t tokens, float* y, int64_t y_stride) {
  switch (w.format) {
    case NumberFormat::kF8:
      return MatVecFloat8(w, x, x_stride, tokens, y, y_stride);
    case NumberFormat::kBF16:
      return MatVecOf<BFloat16>(w, x, x_stride, tokens, y, y_stride);
    case NumberFormat::kF16:
      return MatVecOf<Float16>(w, x, x_stride, tokens, y, y_stride);
    default:
      return MatVecOf<float>(w, x, x_stride, tokens, y, y_stride);
  }
}

template <class T>
void MixOf(const T* bases, int64_t num_bases, int64_t basis_size,
           const float* alpha, int64_t first, int64_t count, float* out) {
  for (int64_t j = 0; j < count; ++j) {
    float sum = 0;
    for (int64_t i = 0; i < num_bases; ++i) {
      if (alpha[i] == 0) continue;
      sum += alpha[i] * Value(bases[i * basis_size + first + j]);
    }
    out[j] = sum;
  }
}

void Activate(Activation f, const float* x, int64_t count, float* y) {
  for (int64_t j = 0; j < count; ++j) y[j] = Apply(f, x[j]);
}

void BasisMix(const BasesView& bases, const float* alpha, int64_t first,
              int64_t count, Activation f, float* out) {
  const int64_t basis_size = bases.rank * bases.cols;
  if (bases.dtype == DType::kBF16) {
    MixOf(static_cast<const BFloat16*>(bases.data), bases.num_bases, basis_size,
          alpha, first, count, out);
  } else {
    MixOf(static_cast<const float*>(bases.data), bases.num_bases, basis_size,
          alpha, first, count, out);
  }
  Activate(f, out, count, out);
}

void MixMatVec(const BasesView& bases, const float* alpha, int64_t first_row,
               int64_t rows, Activation f, const float* x, int64_t x_stride,
               int64_t tokens, float* u, int64_t u_stride) {
  float* row = RowScratch(bases.cols);
  for (int64_t k = 0; k < rows; ++k) {
    BasisMix(bases, alpha, (first_row + k) * bases.cols, bases.cols, f, row);
    MatVecOf<float>({NumberFormat::kF32, row, 1, bases.cols}, x, x_stride,
                    tokens, u + k, u_stride);
  }
}

void ActivateBackward(Activation f, const float* x, const float* g,
                      int64_t count, float* d) {
  for (int64_t j = 0; j < count; ++j) d[j] = g[j] * Derivative(f, x[j]);
}

void Swiglu(const float* gate, const float* up, int64_t count, float* y) {
  for (int64_t j = 0; j < count; ++j) y[j] = Silu(gate[j]) * up[j];
}

void Adam(const AdamStep& step, const float* gradient, int64_t count,
          float* value, float* first_moment, float* second_moment) {
  for (int64_t j = 0; j < count; ++j) {
    const float g = gradient[j];
    const float m = step.beta1 * first_moment[j] + (1.0f - step.beta1) * g;
    const float v =
        step.beta2 * second_moment[j] + (1.0f - step.beta2) * (g * g);
    first_moment[j] = m;
    second_moment[j] = v;
    value[j] -= step.step_size * m /
                (std::sqrt(v) * step.denominator_scale + step.epsilon);
  }
}

double Subtract(const float* a, float scale, const float* b, int64_t count,
                float* e) {
  double sum = 0;
  for (int64_t j = 0; j < count; ++j) {
    const float difference = a[j] - scale * b[j];
    e[j] = difference;
    sum += static_cast<double>(difference) * difference;
  }
  return sum;
}

int64_t Cholesky(int64_t n, float* g, int64_t stride) {
  for (int64_t k = 0; k < n; ++k) {
    for (int64_t i = k; i < n; ++i) {
      for (int64_t j = 0; j < k; ++j) {
        g[k * stride + i] -= g[j * stride + k] * g[j * stride + i];
      }
    }
    const float pivot = g[k * stride + k];
    if (pivot <= 0) return k;
    const float root = std::sqrt(pivot);
    for (int64_t i = k; i < n; ++i) g[k * stride + i] /= root;
  }
  return -1;
}

void SolveTriangle(int64_t n, const float* t, int64_t row_stride,
                   int64_t col_stride, float* x, int64_t x_stride,
                   int64_t count) {
  for (int64_t k = 0; k < n; ++k) {
    const float* column = t + k * col_stride;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < k; ++j) {
        x[k * x_stride + i] -= column[j * row_stride] * x[j * x_stride + i];
      }
      x[k * x_stride + i] /= column[k * row_stride];
    }
  }
}

template <class T>
void AddProductsOf(int64_t rows, int64_t inner, int64_t cols, const float* a,
                   int64_t a_stride, const T* b, int64_t b_stride, float* c,
                   int64_t c_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < inner; ++k) {
      for (int64_t j = 0; j < cols; ++j) {
        c[r * c_stride + j] += a[r * a_stride + k] * Value(b[k * b_stride + j]);
      }
    }
  }
}

void AddProducts(int64_t rows, int64_t inner, int64_t cols, const float* a,
                 int64_t a_stride, const TileView& b, float* c,
                 int64_t c_stride) {
  if (b.dtype == DType::kI8) {
    AddProductsOf(rows, inner, cols, a, a_stride,
                  static_cast<const int8_t*>(b.data), b.stride, c, c_stride);
  } else if (b.dtype == DType::kBF16) {
    AddProductsOf(rows, inner, cols, a, a_stride,
                  static_cast<const BFloat16*>(b.data), b.stride, c, c_stride);
  } else {
    AddProductsOf(rows, inner, cols, a, a_stride,
                  static_cast<const float*>(b.data), b.stride, c, c_stride);
  }
}

float SoftmaxStep(float* x, int64_t count, float* max, float* sum) {
  float largest = *max;
  for (int64_t j = 0; j < count; ++j) largest = std::max(largest, x[j]);
  const float factor = std::exp(*max - largest);
  *sum *= factor;
  for (int64_t j = 0; j < count; ++j) {
    x[j] = std::exp(x[j] - largest);
    *sum += x[j];
  }
  *max = largest;
  return factor;
}

void Add(const float* x, const float* y, int64_t count, float* z) {
  for (int64_t j = 0; j < count; ++j) z[j] = x[j] + y[j];
}

void Multiply(const float* x, const float* y, int64_t count, float* z) {
  for (int64_t j = 0; j < count; ++j) z[j] = x[j] * y[j];
}

void RmsNormRow(const float* weight, float eps, const float* x, int64_t count,
                float* y) {
  float sum = 0;
  for (int64_t j = 0; j < count; ++j) sum += x[j] * x[j];
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(count) + eps);
  for (int64_t j = 0; j < count; ++j) y[j] = x[j] * scale * weight[j];
}

void Rotate(const float* cosines, const float* sines, int64_t count, float* x,
            float* y) {
  for (int64_t j = 0; j < count; ++j) {
    const float a = x[j];
    const float b = y[j];
    x[j] = a * cosines[j] - b * sines[j];
    y[j] = b * cosines[j] + a * sines[j];
  }
}

void FromInt8s(const int8_t* x, int64_t count, float* y) {
  for (int64_t j = 0; j < count; ++j) y[j] = x[j];
}

void ToBFloat16s(const float* x, int64_t count, BFloat16* y) {
  for (int64_t j = 0; j < count; ++j) y[j] = ToBFloat16(x[j]);
}

// The largest magnitude; NaN where one is not finite.
float LargestOf(const float* x, int64_t count) {
  float largest = 0;
  bool finite = true;
  for (int64_t j = 0; j < count; ++j) {
    largest = std::max(largest, std::fabs(x[j]));
    finite &= std::isfinite(x[j]);
  }
  return finite ? largest : std::numeric_limits<float>::quiet_NaN();
}

RoundedRow ToInt8s(const float* x, int64_t count, int8_t* y) {
  const float largest = LargestOf(x, count);
  const bool finite = !std::isnan(largest);
  if (!finite || largest < kLeastInt8) {
    std::fill_n(y, count, int8_t{0});
    return {finite ? 0.0f : std::numeric_limits<float>::quiet_NaN(), 0};
  }
  RoundedRow row{largest / kMostInt8, 0};
  const float inverse = kMostInt8 / largest;
  for (int64_t j = 0; j < count; ++j) {
    y[j] = static_cast<int8_t>(std::nearbyint(x[j] * inverse));
    row.sum += y[j];
  }
  return row;
}

RoundedRow ToInt15s(const float* x, int64_t count, int8_t* high, int8_t* low) {
  const float largest = LargestOf(x, count);
  const bool finite = !std::isnan(largest);
  if (!finite || largest < kLeastInt15) {
    std::fill_n(high, count, int8_t{0});
    std::fill_n(low, count, int8_t{0});
    return {finite ? 0.0f : std::numeric_limits<float>::quiet_NaN(), 0};
  }
  RoundedRow row{largest / kMostInt15, 0};
  const float inverse = kMostInt15 / largest;
  for (int64_t j = 0; j < count; ++j) {
    const auto v = static_cast<int32_t>(std::nearbyint(x[j] * inverse));
    high[j] = static_cast<int8_t>((v + 64) >> 7);
    low[j] = static_cast<int8_t>(v - 128 * high[j]);
    row.sum += v;
  }
  return row;
}

void FromFloat16s(const Float16* x, int64_t count, float* y) {
  for (int64_t j = 0; j < count; ++j) y[j] = ToFloat(x[j]);
}

void FromBFloat16s(const BFloat16* x, int64_t count, float* y) {
  for (int64_t j = 0; j < count; ++j) y[j] = ToFloat(x[j]);
}

void FromFloat8s(const Float8* x, int64_t count, float scale, float* y) {
  for (int64_t j = 0; j < count; ++j) y[j] = scale * ToFloat(x[j]);
}

}  // namespace

KernelSet ScalarKernels() {
  return {.name = "scalar",
          .mat_vec = MatVec,
          .basis_mix = BasisMix,
          .mix_mat_vec = MixMatVec,
          .activate = Activate,
          .activate_backward = ActivateBackward,
          .swiglu = Swiglu,
          .adam = Adam,
          .subtract = Subtract,
          .cholesky = Cholesky,
          .solve_triangle = SolveTriangle,
          .add_products = AddProducts,
          .softmax_step = SoftmaxStep,
          .add = Add,
          .multiply = Multiply,
          .rms_norm = RmsNormRow,
          .rotate = Rotate,
          .to_int8 = ToInt8s,
          .to_int15 = ToInt15s,
          .from_int8 = FromInt8s,
          .to_bfloat16 = ToBFloat16s,
          .from_bfloat16 = FromBFloat16s,
          .from_float16 = FromFloat16s,
          .from_float8 = FromFloat8s};
}

}  // namespace mobe
