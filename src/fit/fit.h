// The fit: factors W_e = A_e f(sum_i alpha_ei B_i) for all experts e of one
// layer and kind (arXiv 2508.05257, equations 3 to 6), with no data but W.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/matrix.h"
#include "kernels/kernels.h"

namespace mobe {

// What the experts of one layer read when the model ran on a text: the inputs
// of all tokens, and which of them each expert chose. Pairs of a token and an
// expert are sorted by expert, then by token.
struct RoutedInputs {
  Buffer<BFloat16> x;           // [tokens, cols]
  std::vector<int64_t> starts;  // [experts + 1]: an expert's first pair
  std::vector<int32_t> tokens;  // [pairs]
  std::vector<float> weights;   // [pairs]: routing weights

  bool empty() const { return starts.empty(); }
};
// x [count, cols] = the inputs of these tokens. Who sums over many takes so
// many at a time: in float32 they are twice as large.
inline constexpr int64_t kGatherTokens = 1024;
void GatherInputs(const RoutedInputs& inputs, const int32_t* tokens,
                  int64_t count, int64_t cols, float* x);

// An expert on its tokens, or on as many as matter: what the matrix that is
// fitted puts out, W x, and what an error there does to what the expert puts
// out, to first order: e [rows] of a token moves that by a vector whose square
// is (c * e)^T K (c * e), c the token's slopes, element by element.
struct ExpertOutputs {
  std::vector<int32_t> tokens;  // rows of RoutedInputs::x
  Buffer<float> wanted;         // W x [rows, tokens]
  Buffer<float> slopes;         // c [rows, tokens]
  Buffer<float> gram;           // K [rows, rows]
};
// Of an expert of the target whose inputs these are; called from several
// threads.
using OutputsFn = std::function<void(const RoutedInputs& inputs, int64_t expert,
                                     ExpertOutputs* outputs)>;

// The expert matrices of one layer and kind, and their common scale.
struct FitTarget {
  int64_t experts = 0;
  int64_t rows = 0;       // of one expert's matrix: its intermediate size
  int64_t cols = 0;       // hidden size
  Buffer<float> weights;  // [experts, rows, cols], finite
  double scale = 1;       // standard deviation of all weights; 1 if that is 0
  // What weighs the error, where the model was run on a text:
  // mobe/moments_file.h fills them. Empty: the identity, and all 1.
  Buffer<float> moment;  // [cols, cols]: second moment of the input, mean of
                         // its diagonal 1
  Buffer<float> importance;  // [experts]: share of the output, mean about 1;
                             // in the fit all count alike
  RoutedInputs inputs;       // gives each expert a moment of its own
  OutputsFn outputs;         // null: what matrices put out counts as it is

  int64_t matrix_size() const { return rows * cols; }
  double importance_of(int64_t expert) const {
    return importance.size() == 0 ? 1.0 : importance[expert];
  }
  const float* matrix(int64_t expert) const {
    return weights.data() + expert * matrix_size();
  }
};

// What is stored: A with the scale folded in, the bases, alpha as used.
struct Factors {
  int64_t num_bases = 0;
  int64_t rank = 0;
  Activation activation = Activation::kSilu;
  Buffer<float> a;      // [experts, rows, rank]
  Buffer<float> bases;  // [num_bases, rank, cols]
  Buffer<float> alpha;  // [experts, num_bases]
  // Low-rank bases are stored as U_i and V_i; `bases` then holds the products,
  // for those who compute with them. All empty when bases are stored whole.
  int64_t basis_rank = 0;
  Buffer<float> bases_left;   // U [num_bases, rank, basis_rank]
  Buffer<float> bases_right;  // V [num_bases, basis_rank, cols]
};

struct Method;    // method.h
class FitDevice;  // device.h
extern const Method kFastSolver;

struct FitOptions {
  int64_t num_bases = 0;
  int64_t rank = 0;        // = rows in every published model
  int64_t basis_rank = 0;  // B_i = U_i V_i of that rank; 0: any B_i
  int64_t max_alphas = 0;  // not zero for one expert; 0: all may be so
  Activation activation = Activation::kSilu;
  const Method* solver = &kFastSolver;
  FitDevice* device = nullptr;  // null: the CPU
  // Products in float32 throughout, rather than in what the device multiplies
  // fastest until the last passes.
  bool exact = false;
  int64_t passes = 0;  // over all experts
  uint64_t seed = 0;
  // Dtype in which the factors will be stored. The fast solver rounds bases and
  // alpha to it before its last solve for A, which then makes up for the
  // rounding.
  DType stored = DType::kBF16;
  // Asked between experts once the passes are done, and may throw. May be null.
  std::function<void()> check = nullptr;
  // The reference solver's start: A not yet scaled, logits in place of alpha.
  // Null: grouped SVDs.
  const Factors* start = nullptr;
};

// Called after each pass with its number (from 1), the number of all, and the
// mean squared error of W / scale before its step.
using PassFn =
    std::function<void(int64_t pass, int64_t passes, double scaled_mse)>;

// Fails with kUserInput for options that can't be (rank above cols, more bases
// than experts). Result independent of the number of threads.
Factors Fit(const FitTarget& target, const FitOptions& options,
            const PassFn& on_pass);

// Error of the product of `factors` against the target.
struct FitError {
  double scaled_mse = 0;    // mean of ((W - A f(alpha B)) / scale)^2
  double relative = 0;      // Frobenius norm of the difference over that of W
  double worst_expert = 0;  // the largest relative error of a single expert
  int64_t worst_expert_index = 0;
};
FitError MeasureFit(const FitTarget& target, const Factors& factors);
// The same in two steps, for experts that are not in memory together.
struct ExpertError {
  double difference = 0;  // squared Frobenius norm of W - A f(alpha B)
  double weights = 0;     // of W
};
// Of one matrix against what stands for it; the latter is overwritten.
ExpertError MeasureExpert(const float* weights, int64_t matrix_size,
                          float* product);
std::vector<ExpertError> MeasureExperts(const FitTarget& target,
                                        const Factors& factors);
FitError ErrorOf(const std::vector<ExpertError>& experts, double scale,
                 int64_t matrix_size);
// The same for any approximation: build(expert, product) writes its matrix, and
// is called from several threads.
using BuildFn = std::function<void(int64_t expert, float* product)>;
FitError MeasureDifference(const FitTarget& target, const BuildFn& build);

// product = A_e f(sum_i alpha_ei B_i), [rows, cols], for one expert.
// `scratch` is resized to [rank, cols].
void BuildExpert(const Factors& factors, int64_t expert, int64_t rows,
                 int64_t cols, Buffer<float>* scratch, float* product);
// The same with the expert's A from elsewhere, [rows, rank].
void BuildExpert(const Factors& shared, const float* a, int64_t expert,
                 int64_t rows, int64_t cols, Buffer<float>* scratch,
                 float* product);

// Rounds values to `dtype` and back: what a reader of the file will see.
void RoundTo(DType dtype, Buffer<float>* values);
// The same for what experts share: bases, whole or as their factors, and alpha.
void RoundShared(DType dtype, int64_t cols, Factors* factors);
// The same for all that is stored of the factors.
void RoundFactors(DType dtype, int64_t cols, Factors* factors);

// bases = U_i V_i, when they are low-rank.
void MultiplyBases(int64_t cols, Factors* factors);

namespace internal {

// Both solvers start from experts in num_bases contiguous groups, as even as
// can be, each of which gives one basis. The first expert of group `group`.
inline int64_t GroupBegin(int64_t group, int64_t experts, int64_t num_bases) {
  return group * experts / num_bases;
}

// The published start: the SVD of each group's stacked matrices. Bases are the
// leading right singular vectors as rows, A of expert e is its rows of U S.
struct SvdStart {
  Buffer<float> bases;         // [num_bases, rank, cols]
  Buffer<float> a;             // [experts, rows, rank]
  std::vector<int64_t> group;  // [experts]: its basis
};
SvdStart GroupedSvd(const float* weights, int64_t experts, int64_t rows,
                    int64_t cols, int64_t num_bases, int64_t rank);

// The fast solver's start: bases [num_bases, rank, cols] with orthonormal rows
// that span nearly what the SVD's do, in no order (spaces.cc). NaN when
// weights are too large for float32.
Buffer<float> GroupedSpaces(const FitTarget& target, int64_t num_bases,
                            int64_t rank, uint64_t seed);

// B [rank, cols] = U [rank, kept] V [kept, cols], nearly: the truncated SVD,
// both with the roots of the singular values.
void SplitBasis(const float* basis, int64_t rank, int64_t cols, int64_t kept,
                float* left, float* right);
// B_i . B_j [num_bases, num_bases].
std::vector<double> GramOfBases(const Buffer<float>& bases, int64_t num_bases);
// Keeps the `kept` largest |alpha_i| |B_i| of each expert and moves them to
// where their mix is nearest to what it was. The others become 0.
void SparsifyAlpha(const std::vector<double>& gram, int64_t num_bases,
                   int64_t kept, Buffer<float>* alpha);
// Brings bases and alpha into the form that basis_rank and max_alphas ask for.
// Does nothing, and returns false, when neither does.
bool ApplyVariants(const FitTarget& target, const FitOptions& options,
                   Factors* factors);
// The best A for given bases and alpha (a ridge of 1e-6 keeps it defined), all
// inputs alike.
void SolveA(const FitTarget& target, Factors* factors);

// N_e = f(sum_i alpha_ei B_i) of one expert; `mix` is resized to [rank, cols].
void MixExpert(const Factors& factors, int64_t expert, int64_t cols,
               Buffer<float>* mix);

// Columns that one task of a mix takes: with 128 experts, 4 MB of float32.
inline constexpr int64_t kMixGrain = 8192;
// mix[e] = sum_i alpha[e, i] bases[i] for all experts: [experts, size] from
// [experts, num_bases] and [num_bases, size]. Parallel over columns.
void MixBases(const float* alpha, const float* bases, int64_t experts,
              int64_t num_bases, int64_t size, float* mix);
// The transpose of MixBases: gradients to bases and alpha from that to mix.
// d_bases is added to beta times what it holds.
void MixBackward(const float* alpha, const float* bases, const float* d_mix,
                 int64_t experts, int64_t num_bases, int64_t size, float beta,
                 float* d_bases, float* d_alpha);

// Adam's state for one array of parameters.
class Adam {
 public:
  explicit Adam(int64_t size);
  // Step number `step` (from 1) with this learning rate. Parallel.
  void Step(int64_t step, double learning_rate, const float* gradient,
            float* value);

 private:
  Buffer<float> first_;
  Buffer<float> second_;
};

}  // namespace internal
}  // namespace mobe
