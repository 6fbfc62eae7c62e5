// The methods: ways to approximate the experts of one layer and kind. Each is a
// row of one table, of what it is called, what it does, what that costs, what
// it stores, and what it needs.
//
// MoBE's solvers (--solver) find factors of the same form:
//
// fast       variable projection (fast.cc).
// reference  the published algorithm (reference.cc).
//
// Baselines (--method) are other forms, to compare MoBE with at a given size
// (baselines.cc); none has a stored format here:
//
// svd    W_e ~ U_e V_e, the truncated SVD of each expert's matrix. Calibrated:
//        truncated in the norm of the expert's input, as SVD-LLM does (arXiv
//        2403.07378).
// molae  MoLAE (arXiv 2503.23100): W_e ~ A_e B_g, the latent projection B_g
//        shared by a group of experts, from the SVD of their stacked matrices.
//        Followed: the stacked SVD that is its best factorisation. Left out:
//        the rank reduction of each expert before it, a loss that the stacked
//        SVD makes needless, its treatment of down, and its training. Groups
//        are of neighbours and as many as MoBE has bases, so that the two
//        differ only in what an expert may take from its bases.
// d2moe  D2-MoE (arXiv 2502.17298): W_e ~ W_base + U_e V_e, the base a mean of
//        the experts and the delta a truncated SVD. Calibrated: the mean is
//        weighted by importance, which stands for the paper's Fisher
//        information (that needs gradients), and the delta is truncated in the
//        norm of the expert's input, as the paper's truncation-aware SVD. Left
//        out: the pruning of the base, so it is stored whole.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "fit/fit.h"

namespace mobe {

// Sizes of one fit, as in fit.h.
struct FitShape {
  int64_t experts = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t rank = 0;
  int64_t num_bases = 0;
  int64_t basis_rank = 0;  // 0: whole bases
  // Calibrated: pairs of a token and an expert that reads it. 0: it is not.
  int64_t pairs = 0;
};

// What a fit takes, of operations or of seconds: once, for each pass, and more
// for each look of the fast solver's metric (metric.h).
struct FitParts {
  double fixed = 0;
  double pass = 0;
  double look = 0;

  double Total(int64_t passes) const;
};

// What is stored of factors: A, bases and alpha.
int64_t NumbersOfFactors(const FitShape& shape);
// Of FitShape::pairs: each expert's moment from what it read, twice, and A for
// what it puts out (output_solve.h).
double OperationsOfText(const FitShape& shape);

struct FitMemory;  // device.h

struct Method {
  const char* name;
  // What it can do: make use of target.moment, and of inputs or importance;
  // take options.start; fit on other devices than the CPU; give errors that
  // decide --split auto.
  bool calibrates = false;
  bool takes_start = false;
  bool has_devices = false;
  bool splits = false;
  // Whether it leaves A to be solved for, for bases and alpha as stored.
  bool leaves_a = false;
  // One of both. A solver's factors, found in passes; or what a baseline comes
  // to, [experts, rows, cols], from factors of options.rank that are rounded to
  // options.stored.
  Factors (*fit)(const FitTarget&, const FitOptions&, const PassFn&) = nullptr;
  Buffer<float> (*approximate)(const FitTarget&, const FitOptions&) = nullptr;
  // Numbers stored; of a baseline linear in the rank.
  int64_t (*numbers)(const FitShape&) = nullptr;
  // A baseline's largest rank, at which it is exact, but for molae's groups
  // whose stacked matrices have more columns than rows.
  int64_t (*max_rank)(const FitShape&) = nullptr;
  // Floating-point operations (an addition or a multiplication each) of matrix
  // products and decompositions; the rest is less than a hundredth. Of a
  // product of a matrix by itself, half.
  FitParts (*operations)(const FitShape&) = nullptr;
  // The most memory of one fit, on the device of the options.
  FitMemory (*memory)(const FitShape&, const FitDevice&) = nullptr;

  bool is_baseline() const { return approximate != nullptr; }
};

// Beside kFastSolver of fit.h.
extern const Method kReferenceSolver;
extern const Method kSvd;
extern const Method kMolae;
extern const Method kD2Moe;

std::vector<const Method*> Solvers();
std::vector<const Method*> Baselines();
// Null when there is none of that name.
const Method* FindMethod(std::string_view name);

// The largest rank of a baseline that stores at most `budget` numbers, whatever
// shape.rank is. Fails with kUserInput when rank 1 takes more.
int64_t RankForBudget(const Method& baseline, FitShape shape, int64_t budget);

namespace internal {

// GroupedSvd of fit.h: its operations, and the most numbers that it works on,
// beside what it gives.
double GroupedSvdOperations(const FitShape& shape);
int64_t GroupedSvdNumbers(const FitShape& shape);

}  // namespace internal

}  // namespace mobe
