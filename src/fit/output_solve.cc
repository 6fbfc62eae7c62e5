#include "fit/output_solve.h"

#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "fit/cholesky.h"
#include "fit/diagonal.h"
#include "fit/error_feedback.h"
#include "fit/weighted_solve.h"
#include "kernels/gemm.h"

namespace mobe {
namespace {

double Dot(const Buffer<float>& a, const Buffer<float>& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.size(); ++i) {
    sum += static_cast<double>(a[i]) * b[i];
  }
  return sum;
}

// to += factor * from.
void AddTimes(float factor, const Buffer<float>& from, Buffer<float>* to) {
  for (int64_t i = 0; i < from.size(); ++i) (*to)[i] += factor * from[i];
}

// R of gram = R^T R, with as little added to its diagonal as makes it definite;
// false when nothing does.
bool FactorGram(int64_t rank, const Buffer<float>& gram, Buffer<float>* r) {
  constexpr int kTries = 5;
  double ridges = 1;
  for (int i = 0; i < kTries; ++i, ridges *= 10) {
    r->CopyFrom(gram);
    AddOwnRidge(rank, r->data(), ridges);
    if (internal::Cholesky(rank, r->data(), rank) < 0) return true;
  }
  return false;
}

// The problem of one expert, in coordinates in which A - A_0 = Q R^-T.
class OutputProblem {
 public:
  OutputProblem(const ExpertOutputs& outputs, int64_t rows, int64_t rank)
      : outputs_(outputs),
        rows_(rows),
        rank_(rank),
        tokens_(static_cast<int64_t>(outputs.tokens.size())) {}

  // z = N x, [rank, tokens], and then R^-T z.
  void Read(const RoutedInputs& inputs, const Buffer<float>& mix,
            int64_t cols) {
    z_.Resize(rank_ * tokens_);
    x_.Resize(kGatherTokens * cols);
    for (int64_t begin = 0; begin < tokens_; begin += kGatherTokens) {
      const int64_t count = std::min(kGatherTokens, tokens_ - begin);
      GatherInputs(inputs, outputs_.tokens.data() + begin, count, cols,
                   x_.data());
      Gemm(Trans::kNo, Trans::kYes, rank_, count, cols, mix.data(), cols,
           x_.data(), cols, 0.0f, z_.data() + begin, tokens_);
    }
  }
  // errors [rows, tokens] = W x - a z.
  void Miss(const float* a) {
    errors_.CopyFrom(outputs_.wanted);
    GemmSubtract(Trans::kNo, Trans::kNo, rows_, tokens_, rank_, a, rank_,
                 z_.data(), tokens_, errors_.data(), tokens_);
  }
  void Whiten(const Buffer<float>& r) {
    internal::SolveForward(rank_, r.data(), rank_, z_.data(), tokens_, tokens_);
  }
  // The mean of the diagonal of Curve.
  double MeanCurvature() const {
    std::vector<double> squares(static_cast<size_t>(tokens_), 0.0);
    for (int64_t k = 0; k < rank_; ++k) {
      for (int64_t t = 0; t < tokens_; ++t) {
        const double z = z_[k * tokens_ + t];
        squares[static_cast<size_t>(t)] += z * z;
      }
    }
    double sum = 0;
    for (int64_t j = 0; j < rows_; ++j) {
      double row = 0;
      for (int64_t t = 0; t < tokens_; ++t) {
        const double c = outputs_.slopes[j * tokens_ + t];
        row += c * c * squares[static_cast<size_t>(t)];
      }
      sum += row * outputs_.gram[j * (rows_ + 1)];
    }
    return sum / static_cast<double>(rows_ * rank_);
  }
  // to [rows, rank] = what errors pull Q towards.
  void Pull(Buffer<float>* to) {
    const auto slope = [&](Buffer<float>* values) {
      for (int64_t i = 0; i < values->size(); ++i) {
        (*values)[i] *= outputs_.slopes[i];
      }
    };
    slope(&errors_);
    weighed_.Resize(errors_.size());
    Gemm(Trans::kNo, Trans::kNo, rows_, tokens_, rows_, outputs_.gram.data(),
         rows_, errors_.data(), tokens_, 0.0f, weighed_.data(), tokens_);
    slope(&weighed_);
    to->Resize(rows_ * rank_);
    Gemm(Trans::kNo, Trans::kYes, rows_, rank_, tokens_, weighed_.data(),
         tokens_, z_.data(), tokens_, 0.0f, to->data(), rank_);
  }
  // to [rows, rank] = the second derivative times q.
  void Curve(const Buffer<float>& q, Buffer<float>* to) {
    Gemm(Trans::kNo, Trans::kNo, rows_, tokens_, rank_, q.data(), rank_,
         z_.data(), tokens_, 0.0f, errors_.data(), tokens_);
    Pull(to);
  }

 private:
  const ExpertOutputs& outputs_;
  const int64_t rows_;
  const int64_t rank_;
  const int64_t tokens_;
  Buffer<float> x_, z_, errors_, weighed_;
};

// a += q R^-T.
void AddWhitened(const Buffer<float>& q, const Buffer<float>& r, int64_t rows,
                 int64_t rank, float* a) {
  Buffer<float> turned(rank * rows);
  for (int64_t j = 0; j < rows; ++j) {
    for (int64_t k = 0; k < rank; ++k) turned[k * rows + j] = q[j * rank + k];
  }
  internal::SolveBackward(rank, r.data(), rank, turned.data(), rows, rows);
  for (int64_t j = 0; j < rows; ++j) {
    for (int64_t k = 0; k < rank; ++k) a[j * rank + k] += turned[k * rows + j];
  }
}

}  // namespace

void SolveForOutputs(const ExpertOutputs& outputs, const RoutedInputs& inputs,
                     const Buffer<float>& mix, const Buffer<float>& gram,
                     int64_t rows, int64_t rank, int64_t cols, float* a) {
  const auto tokens = static_cast<int64_t>(outputs.tokens.size());
  Buffer<float> r;
  if (tokens == 0 || !FactorGram(rank, gram, &r)) return;
  OutputProblem problem(outputs, rows, rank);
  problem.Read(inputs, mix, cols);
  problem.Miss(a);
  problem.Whiten(r);
  const auto ridge =
      static_cast<float>(SharedPart(cols, tokens) * problem.MeanCurvature());
  Buffer<float> left;
  Buffer<float> direction;
  Buffer<float> curved;
  problem.Pull(&left);
  Buffer<float> q(left.size());
  std::fill(q.begin(), q.end(), 0.0f);
  direction.CopyFrom(left);
  double square = Dot(left, left);
  for (int step = 0; step < kOutputSteps; ++step) {
    problem.Curve(direction, &curved);
    AddTimes(ridge, direction, &curved);
    const double curve = Dot(direction, curved);
    if (!(curve > 0)) break;  // solved, or nothing is to be seen of A
    const auto length = static_cast<float>(square / curve);
    AddTimes(length, direction, &q);
    AddTimes(-length, curved, &left);
    const double before = square;
    square = Dot(left, left);
    const auto kept = static_cast<float>(square / before);
    for (float& value : direction) value *= kept;
    AddTimes(1, left, &direction);
  }
  AddWhitened(q, r, rows, rank, a);
}

void SolveForOutputs(FitDevice* device, const FitTarget& target, DType stored,
                     const std::function<void()>& check, Factors* factors) {
  if (!target.outputs) return;
  const int64_t rank = factors->rank;
  const int64_t size = target.rows * rank;
  const int64_t together = int64_t{2} * Threads();
  for (int64_t first = 0; first < target.experts; first += together) {
    if (check) check();
    ParallelFor(std::min(together, target.experts - first), [&](int64_t i) {
      const int64_t e = first + i;
      float* const a = factors->a.data() + e * size;
      thread_local Buffer<float> moment;
      thread_local Buffer<float> mix;
      thread_local Buffer<float> mix_s;
      thread_local ExpertOutputs outputs;
      thread_local RoundingNorm norm;
      ExpertMoment(target, e, &moment);
      internal::MixExpert(*factors, e, target.cols, &mix);
      MomentOfMix(mix, rank, moment, target.cols, &mix_s, &norm.moment);
      target.outputs(target.inputs, e, &outputs);
      device->SolveForOutputs(outputs, target.inputs, mix, norm.moment,
                              target.rows, rank, target.cols, a);
      FactorMoment(rank, &norm);
      RoundWithFeedback(stored, target.rows, rank, norm, a);
    });
  }
}

}  // namespace mobe
