// A for what the experts put out: the end of a calibrated fit.
//
// The norm of weighted_solve.h counts all that a matrix puts out alike. What
// the expert makes of it does not: gate's g = W x goes through silu, meets up's
// u, and goes through down D. To first order an error e = (A N - W) x of a
// token moves the expert's output by D (c * e), with c = w silu'(g) u for gate
// and w silu(g) for up, w the routing weight. So A is made the least of
//
//   sum_t (c_t * e_t)^T K (c_t * e_t) + ridge tr((A - A_0) G (A - A_0)^T)
//
// over the expert's tokens, K = D^T D; A_0 is that of weighted_solve.h and
// G = N S N^T its norm. The ridge is the mean curvature of the sum in that norm
// times SharedPart: as if as many tokens as there are inputs said that A_0 is
// right. Rows of A meet in K alone, yet solving for each by itself would be
// rank^3 operations a row and leaves more error; conjugate gradients in
// coordinates in which G is the identity are near enough after 20 steps, each
// of two products with what A reads.
//
// Both slopes are of the original's g and u, so that gate and up are solved for
// apart from each other, and nothing else of the model changes. Solving for
// both and down together (Gauss-Newton) was no better on text that it had not
// seen; docs/lab/fit.md has figures.
#pragma once

#include <cstdint>
#include <functional>

#include "fit/device.h"
#include "fit/fit.h"

namespace mobe {

// Tokens of an expert that are used at most.
inline constexpr int64_t kMostOutputTokens = 16384;
// Of conjugate gradients.
inline constexpr int kOutputSteps = 20;

// a [rows, rank]: A_0, and then the solution. For one expert with mix N [rank,
// cols] and gram G [rank, rank], whose tokens are among `inputs`.
// Stays as it is without tokens, or where G has no Cholesky factor. Serial
// inside ParallelFor.
void SolveForOutputs(const ExpertOutputs& outputs, const RoutedInputs& inputs,
                     const Buffer<float>& mix, const Buffer<float>& gram,
                     int64_t rows, int64_t rank, int64_t cols, float* a);

// Solves so on the device for A of every expert of a target that has outputs,
// from what it is, and rounds it to `stored` so that what it puts out loses
// little (error_feedback.h). `check` is asked between experts and may throw; it
// may be null. Bases and alpha are used as they are: round them first.
// Independent of the number of threads.
void SolveForOutputs(FitDevice* device, const FitTarget& target, DType stored,
                     const std::function<void()>& check, Factors* factors);

}  // namespace mobe
