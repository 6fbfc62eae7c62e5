// The error weighted by what the experts read, and the best A in it for given
// bases and alpha.
//
// An expert's output changes by (What - W) x, so with S the second moment of x
// the mean squared change is tr((What - W) S (What - W)^T). In that norm
//
//   A_e = W_e S N_e^T (N_e S N_e^T + eps I)^-1,   N_e = f(sum_i alpha_ei B_i),
//
// the normal equations of the plain fit with S between. Each expert has its own
// S where the target knows it, else the layer's, else the identity.
#pragma once

#include "fit/diagonal.h"
#include "fit/fit.h"

namespace mobe {

// Share of the layer's moment in that of an expert that so many tokens chose:
// as if of as many tokens as there are inputs, without which it would be
// singular.
inline float SharedPart(int64_t inputs, int64_t tokens) {
  return static_cast<float>(inputs) / static_cast<float>(inputs + tokens);
}
// Added to the diagonal of a moment, whose mean is 1: a direction that the text
// did not take counts a little, and few tokens make no singular equations.
inline constexpr float kMomentFloor = 0.01f;
inline void AddFloor(int64_t size, Buffer<float>* moment) {
  AddToDiagonal(size, kMomentFloor, moment->data());
}

// The moment that weighs one expert's error, [cols, cols]: that of the tokens
// that chose the expert, weighted by their squared routing weights, with a
// SharedPart of the layer's moment and 0.01 of the identity; each of mean
// diagonal 1.
void ExpertMoment(const FitTarget& target, int64_t expert, Buffer<float>* s);

// What A reads of an expert whose moment is S [cols, cols]: mix_s [rank, cols]
// = N S and gram [rank, rank] = N S N^T, for mix N [rank, cols].
void MomentOfMix(const Buffer<float>& mix, int64_t rank,
                 const Buffer<float>& moment, int64_t cols,
                 Buffer<float>* mix_s, Buffer<float>* gram);

// Working memory of SolveLeft; keep it to allocate nothing. Of the last
// solution it keeps the first three.
struct SolveScratch {
  Buffer<float> mix_s;        // N S [rank, cols]
  Buffer<float> gram, cross;  // N S N^T, W S N^T
  Buffer<double> gram64, cross64;
};

// a [rows, rank] = W S N^T (N S N^T + eps I)^-1 for w [rows, cols], mix N
// [rank, cols] and moment S [cols, cols]; after PrepareBlas. Serial inside
// ParallelFor. Fails with kInternal when the equations can't be solved.
void SolveLeft(const float* w, int64_t rows, const Buffer<float>& mix,
               int64_t rank, const Buffer<float>& moment, int64_t cols,
               SolveScratch* scratch, float* a);

// Replaces A. Bases and alpha are used as they are: round them first.
// Independent of the number of threads.
void SolveWeightedA(const FitTarget& target, Factors* factors);

// tr(M S M^T) for M [rows, cols] and S [cols, cols]; `product` is resized to
// M's size.
double WeighedSquare(const float* m, int64_t rows, int64_t cols,
                     const Buffer<float>& s, Buffer<float>* product);

// Sum over the experts of importance * tr((What - W) S (What - W)^T), over the
// same of What = 0; 0 for a target of zeros.
double MeasureWeighted(const FitTarget& target, const Factors& factors);

}  // namespace mobe
