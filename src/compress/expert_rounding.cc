#include "compress/expert_rounding.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "base/spread.h"
#include "fit/cholesky.h"
#include "fit/diagonal.h"
#include "fit/output_solve.h"
#include "fit/weighted_solve.h"
#include "io/fp8.h"
#include "kernels/blas.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"
#include "mobe/expert_outputs.h"
#include "mobe/moments_file.h"
#include "mobe/tensors.h"

namespace mobe {
namespace {

// What the moments of experts that are rounded together may take.
constexpr int64_t kMostBytes = int64_t{4} << 30;

// Gate or up of an expert: what it was, and what its rounded form stands for.
struct Input {
  Buffer<float> before;  // [p, d]
  Buffer<float> after;
};

// Sums over an expert's tokens, [p, p].
struct InnerMoments {
  Buffer<float> cross;   // of h h'^T
  Buffer<float> moment;  // of h' h'^T
};

// How A is solved for: so that experts put out what they did
// (fit/output_solve.h), or so that their matrices do (fit/weighted_solve.h),
// which is a tenth of the work, and enough to compare formats.
enum class Solving { kForOutputs, kQuickly };

struct Scratch {
  Buffer<float> moment;
  RoundingNorm norm;
  Input gate, up;
  ExpertOutputs outputs;
  InnerMoments inner;
  Buffer<float> down, moved;  // [d, p]
};

}  // namespace

// What the experts of a layer have in common.
class ExpertRounding::Layer {
 public:
  Layer(const OpenedModel& model, const OpenedModel* original,
        const std::filesystem::path& moments, const BasesFormatFn& bases_format,
        const MoveBasesFn& move, int64_t layer)
      : model_(model), original_(original), layer_(layer) {
    inputs_.experts = model.config.num_experts;
    inputs_.rows = model.config.expert_size;
    inputs_.cols = model.config.hidden_size;
    LoadMoments(moments, layer, kGateKind, &inputs_);
    down_moment_ = LoadDownMoment(moments, layer, inputs_.rows);
    for (const MatrixKind* kind : {&kGateKind, &kUpKind}) {
      const FactorShape* shape = model.Factored(layer, *kind);
      if (shape == nullptr) continue;
      for (const ExpertGroup& group : GroupsOf(model.config, *shape)) {
        Shared& shared = shared_[kind == &kUpKind].emplace_back();
        shared.group = group;
        shared.before = LoadShared(model, layer, *kind, group);
        if (shared.before.basis_rank > 0) continue;
        const FormatRow* format =
            bases_format(model.At(kind->bases, layer, group.index));
        if (format == nullptr) continue;
        MoveAndRound({layer, kind, group, format, ShapeOf(shared),
                      [&] { return TargetOf(moments, *kind, shared); }},
                     move, &shared);
      }
    }
  }

  // By the names of tensors; null where bases stay as they are.
  const RoundedMatrix* FindBases(const std::string& name) const {
    const Shared* shared = FindRounded(&MatrixKind::bases, name);
    return shared == nullptr ? nullptr : &shared->bases;
  }
  const Buffer<float>* FindAlpha(const std::string& name) const {
    const Shared* shared = FindRounded(&MatrixKind::alpha, name);
    return shared == nullptr ? nullptr : &shared->after->alpha;
  }

  int64_t experts() const { return inputs_.experts; }
  // Of float32, while an expert is rounded.
  int64_t bytes() const {
    const int64_t p = inputs_.rows;
    const int64_t d = inputs_.cols;
    const int64_t tokens =
        std::min(std::ssize(inputs_.inputs.tokens), kMostOutputTokens);
    return 4 * (3 * d * d + 8 * p * d + 5 * p * tokens);
  }

  void Round(int64_t expert, const ExpertFormats& formats,
             RoundedExpert* out) const {
    thread_local Scratch s;
    Round(expert, formats, Solving::kForOutputs, &s, out);
  }

  ExpertErrors Measure(int64_t expert, const ExpertFormats& formats) const {
    thread_local Scratch s;
    thread_local RoundedExpert out;
    Round(expert, formats, Solving::kQuickly, &s, &out);
    ExpertErrors errors;
    errors.gate = ErrorOf(inputs_.cols, s.gate.before, s.gate.after, s.moment);
    errors.up = ErrorOf(inputs_.cols, s.up.before, s.up.after, s.moment);
    if (formats.down != nullptr) {
      errors.down =
          ErrorOf(inputs_.rows, s.moved, out.down.values, s.norm.moment);
    }
    return errors;
  }

 private:
  struct Shared {
    ExpertGroup group;
    Factors before;
    std::optional<Factors> after;  // nothing: bases stay as they are
    RoundedMatrix bases;           // of it
  };

  // The matrices that factors stand in for, and what their experts read.
  FitTarget TargetOf(const std::filesystem::path& moments,
                     const MatrixKind& kind, const Shared& shared) const {
    const ExpertGroup& group = shared.group;
    FitTarget target;
    target.experts = group.count;
    target.rows = inputs_.rows;
    target.cols = inputs_.cols;
    target.weights.Resize(target.experts * target.matrix_size());
    std::vector<Spread> spreads(static_cast<size_t>(group.count));
    ParallelFor(group.count, [&](int64_t e) {
      thread_local Buffer<float> matrix;
      LoadBefore(kind, group.first + e, &matrix);
      std::ranges::copy(matrix,
                        target.weights.data() + e * target.matrix_size());
      spreads[static_cast<size_t>(e)] =
          SpreadOf({matrix.data(), static_cast<size_t>(matrix.size())});
    });
    target.scale = ScaleOf(spreads);
    LoadMoments(moments, layer_, kind, inputs_.experts, group, &target);
    return target;
  }

  FitShape ShapeOf(const Shared& shared) const {
    return {.experts = shared.group.count,
            .rows = inputs_.rows,
            .cols = inputs_.cols,
            .rank = shared.before.rank,
            .num_bases = shared.before.num_bases,
            .pairs = std::ssize(inputs_.inputs.tokens)};
  }

  void MoveAndRound(const BasesJob& job, const MoveBasesFn& move,
                    Shared* shared) const {
    const Factors& before = shared->before;
    Factors& after = shared->after.emplace();
    after.num_bases = before.num_bases;
    after.rank = before.rank;
    after.activation = before.activation;
    after.alpha.CopyFrom(before.alpha);
    after.bases.CopyFrom(before.bases);
    move(job, &after);
    RoundTo(model_.At(job.kind->alpha, layer_, job.group.index).dtype,
            &after.alpha);
    RoundBases(*job.format, after.bases, after.num_bases, after.rank,
               inputs_.cols, &shared->bases);
    shared->bases.given = std::move(after.bases);
    after.bases.CopyFrom(shared->bases.values);
  }

  const Shared* FindRounded(Role MatrixKind::*role,
                            const std::string& name) const {
    for (const MatrixKind* kind : {&kGateKind, &kUpKind}) {
      for (const Shared& one : shared_[kind == &kUpKind]) {
        if (!one.after) continue;
        if (model_.At(kind->*role, layer_, one.group.index).name == name) {
          return &one;
        }
      }
    }
    return nullptr;
  }

  void Round(int64_t expert, const ExpertFormats& formats, Solving solving,
             Scratch* scratch, RoundedExpert* out) const {
    Scratch& s = *scratch;
    ExpertMoment(inputs_, expert, &s.moment);
    LoadBefore(kGateKind, expert, &s.gate.before);
    LoadBefore(kUpKind, expert, &s.up.before);
    const bool is_factored =
        !shared_.front().empty() || !shared_.back().empty();
    if (formats.down != nullptr ||
        (is_factored && solving == Solving::kForOutputs)) {
      LoadDown(expert, &s.down);
    }
    RoundInput(kGateKind, expert, formats.gate, solving, &s, &s.gate,
               &out->gate);
    RoundInput(kUpKind, expert, formats.up, solving, &s, &s.up, &out->up);
    if (formats.down == nullptr) return;
    const int64_t p = inputs_.rows;
    const int64_t d = inputs_.cols;
    SumInner(expert, &s);
    if (formats.gate != nullptr || formats.up != nullptr) {
      MoveDown(&s);
    } else {
      s.moved.CopyFrom(s.down);
    }
    s.norm.moment.CopyFrom(s.inner.moment);
    FactorMoment(p, &s.norm);
    RoundWithFeedback(*formats.down, s.moved.data(), d, p, s.norm, &out->down);
  }

  // Of matrices [rows, cols]: tr((after - before) S (after - before)^T) over
  // tr(before S before^T).
  static double ErrorOf(int64_t cols, const Buffer<float>& before,
                        const Buffer<float>& after,
                        const Buffer<float>& moment) {
    thread_local Buffer<float> difference;
    thread_local Buffer<float> product;
    const int64_t rows = before.size() / cols;
    difference.Resize(before.size());
    Kernels().subtract(after.data(), 1, before.data(), before.size(),
                       difference.data());
    const double all =
        WeighedSquare(before.data(), rows, cols, moment, &product);
    if (!(all > 0)) return 0;
    return WeighedSquare(difference.data(), rows, cols, moment, &product) / all;
  }

  // What the expert belongs to in a factored layer; null where it is plain.
  const Shared* SharedOf(const MatrixKind& kind, int64_t expert) const {
    const std::vector<Shared>& shared = shared_[&kind == &kUpKind];
    const auto found = std::ranges::find_if(shared, [&](const Shared& one) {
      return expert < one.group.first + one.group.count;
    });
    return found == shared.end() ? nullptr : &*found;
  }

  // product [p, d] = A times the expert's mix.
  void Multiply(const float* a, const Buffer<float>& mix, int64_t rank,
                Buffer<float>* product) const {
    product->Resize(inputs_.rows * inputs_.cols);
    Gemm(Trans::kNo, Trans::kNo, inputs_.rows, inputs_.cols, rank, a, rank,
         mix.data(), inputs_.cols, 0.0f, product->data(), inputs_.cols);
  }

  void LoadBefore(const MatrixKind& kind, int64_t expert,
                  Buffer<float>* before) const {
    const Shared* own = SharedOf(kind, expert);
    const OpenedModel& from =
        own != nullptr && original_ != nullptr ? *original_ : model_;
    const TensorView& tensor = from.At(kind.expert, layer_, expert);
    if (own == nullptr || original_ != nullptr) {
      before->Resize(tensor.elements());
      LoadFloats(tensor, before->data());
      return;
    }
    thread_local Buffer<float> a;
    thread_local Buffer<float> mix;
    a.Resize(tensor.elements());
    LoadFloats(tensor, a.data());
    internal::MixExpert(own->before, expert - own->group.first, inputs_.cols,
                        &mix);
    Multiply(a.data(), mix, own->before.rank, before);
  }

  // Empty where down is factored.
  void LoadDown(int64_t expert, Buffer<float>* down) const {
    down->Resize(0);
    if (model_.Factored(layer_, kDownKind) != nullptr) return;
    const TensorView& tensor = model_.At(Role::kExpertDown, layer_, expert);
    down->Resize(tensor.elements());
    LoadFloats(tensor, down->data());
  }

  // After both of `before` and down are loaded.
  void RoundInput(const MatrixKind& kind, int64_t expert,
                  const FormatRow* format, Solving solving, Scratch* s,
                  Input* input, RoundedMatrix* out) const {
    const int64_t p = inputs_.rows;
    const int64_t d = inputs_.cols;
    const Shared* own = SharedOf(kind, expert);
    out->given.Resize(0);
    if (own == nullptr) {
      if (format == nullptr) {
        input->after.CopyFrom(input->before);
        return;
      }
      s->norm.moment.CopyFrom(s->moment);
      FactorMoment(d, &s->norm);
      RoundWithFeedback(*format, input->before.data(), p, d, s->norm, out);
      input->after.CopyFrom(out->values);
      return;
    }
    const TensorView& tensor = model_.At(kind.expert, layer_, expert);
    thread_local Buffer<float> a;
    thread_local Buffer<float> mix;
    a.Resize(tensor.elements());
    LoadFloats(tensor, a.data());
    const int64_t rank = own->before.rank;
    internal::MixExpert(own->after ? *own->after : own->before,
                        expert - own->group.first, d, &mix);
    if (format == nullptr) {
      Multiply(a.data(), mix, rank, &input->after);
      return;
    }
    thread_local SolveScratch scratch;
    if (own->after || original_ != nullptr) {
      SolveLeft(input->before.data(), p, mix, rank, s->moment, d, &scratch,
                a.data());
      s->norm.moment.CopyFrom(scratch.gram);
      if (s->down.size() > 0 && solving == Solving::kForOutputs) {
        LinearizeExpert(
            {s->gate.before.data(), s->up.before.data(), s->down.data()}, kind,
            inputs_.inputs, expert, p, d, &s->outputs);
        SolveForOutputs(s->outputs, inputs_.inputs, mix, s->norm.moment, p,
                        rank, d, a.data());
      }
    } else {
      MomentOfMix(mix, rank, s->moment, d, &scratch.mix_s, &s->norm.moment);
    }
    FactorMoment(rank, &s->norm);
    RoundWithFeedback(*format, a.data(), p, rank, s->norm, out);
    out->given.CopyFrom(a);
    Multiply(out->values.data(), mix, rank, &input->after);
  }

  // What down reads of the expert's tokens, before and after.
  void SumInner(int64_t expert, Scratch* s) const {
    const int64_t p = inputs_.rows;
    const int64_t d = inputs_.cols;
    const RoutedInputs& in = inputs_.inputs;
    const auto e = static_cast<size_t>(expert);
    InnerMoments& sums = s->inner;
    for (Buffer<float>* sum : {&sums.cross, &sums.moment}) {
      sum->Resize(p * p);
      std::fill(sum->begin(), sum->end(), 0.0f);
    }
    thread_local Buffer<float> x;
    thread_local Buffer<float> gate;
    thread_local Buffer<float> up;
    thread_local Buffer<float> before;
    thread_local Buffer<float> after;
    const auto inner = [&](int64_t count, const Buffer<float>& gate_matrix,
                           const Buffer<float>& up_matrix, int64_t first,
                           Buffer<float>* h) {
      gate.Resize(count * p);
      up.Resize(count * p);
      h->Resize(count * p);
      Gemm(Trans::kNo, Trans::kYes, count, p, d, x.data(), d,
           gate_matrix.data(), d, 0.0f, gate.data(), p);
      Gemm(Trans::kNo, Trans::kYes, count, p, d, x.data(), d, up_matrix.data(),
           d, 0.0f, up.data(), p);
      Kernels().swiglu(gate.data(), up.data(), count * p, h->data());
      for (int64_t i = 0; i < count; ++i) {
        const float weight = in.weights[static_cast<size_t>(first + i)];
        for (int64_t j = 0; j < p; ++j) (*h)[i * p + j] *= weight;
      }
    };
    for (int64_t begin = in.starts[e]; begin < in.starts[e + 1];
         begin += kGatherTokens) {
      const int64_t count = std::min(kGatherTokens, in.starts[e + 1] - begin);
      x.Resize(count * d);
      GatherInputs(in, in.tokens.data() + begin, count, d, x.data());
      inner(count, s->gate.before, s->up.before, begin, &before);
      inner(count, s->gate.after, s->up.after, begin, &after);
      Gemm(Trans::kYes, Trans::kNo, p, p, count, before.data(), p, after.data(),
           p, 1.0f, sums.cross.data(), p);
      Gemm(Trans::kYes, Trans::kNo, p, p, count, after.data(), p, after.data(),
           p, 1.0f, sums.moment.data(), p);
    }
    const double mean = MeanDiagonal(p, sums.moment.data());
    const float rest =
        mean > 0 ? SharedPart(p, in.starts[e + 1] - in.starts[e]) : 1;
    const float own = mean > 0 ? (1 - rest) / static_cast<float>(mean) : 0;
    for (Buffer<float>* sum : {&sums.cross, &sums.moment}) {
      for (int64_t i = 0; i < p * p; ++i) {
        (*sum)[i] = own * (*sum)[i] + rest * down_moment_[i];
      }
      AddFloor(p, sum);
    }
  }

  // moved = down cross moment^-1.
  void MoveDown(Scratch* s) const {
    const int64_t p = inputs_.rows;
    const int64_t d = inputs_.cols;
    thread_local Buffer<float> root;
    thread_local Buffer<float> solved;
    root.CopyFrom(s->inner.moment);
    if (internal::Cholesky(p, root.data(), p) >= 0) {
      s->moved.CopyFrom(s->down);
      return;
    }
    // (C G^-1)^T = G^-1 C^T
    solved.Resize(p * p);
    for (int64_t i = 0; i < p; ++i) {
      for (int64_t j = 0; j < p; ++j) {
        solved[i * p + j] = s->inner.cross[j * p + i];
      }
    }
    internal::SolveForward(p, root.data(), p, solved.data(), p, p);
    internal::SolveBackward(p, root.data(), p, solved.data(), p, p);
    s->moved.Resize(d * p);
    Gemm(Trans::kNo, Trans::kYes, d, p, p, s->down.data(), p, solved.data(), p,
         0.0f, s->moved.data(), p);
  }

  const OpenedModel& model_;
  const OpenedModel* const original_;
  const int64_t layer_;
  FitTarget inputs_;                           // without matrices
  Buffer<float> down_moment_;                  // of a mean diagonal of 1
  std::array<std::vector<Shared>, 2> shared_;  // of gate and up
};

ExpertRounding::ExpertRounding(const OpenedModel& model,
                               const OpenedModel* original,
                               std::filesystem::path moments,
                               BasesFormatFn bases_format, MoveBasesFn move)
    : model_(model),
      original_(original),
      moments_(std::move(moments)),
      bases_format_(std::move(bases_format)),
      move_(std::move(move)) {
  PrepareBlas();
}
ExpertRounding::~ExpertRounding() = default;

void ExpertRounding::Load(int64_t layer) {
  if (index_ == layer) return;
  layer_ = std::make_unique<Layer>(model_, original_, moments_, bases_format_,
                                   move_, layer);
  index_ = layer;
  experts_.clear();
}

const RoundedMatrix* ExpertRounding::FindBases(const TensorSpec& spec) {
  Load(spec.layer);
  return layer_->FindBases(spec.name);
}

const Buffer<float>* ExpertRounding::FindAlpha(const TensorSpec& spec) {
  Load(spec.layer);
  return layer_->FindAlpha(spec.name);
}

ExpertErrors ExpertRounding::Measure(int64_t layer,
                                     const std::vector<int64_t>& experts,
                                     const ExpertFormats& formats) {
  Load(layer);
  std::vector<ExpertErrors> each(experts.size());
  ParallelFor(static_cast<int64_t>(experts.size()), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    each[at] = layer_->Measure(experts[at], formats);
  });
  ExpertErrors mean;
  const auto count = static_cast<double>(experts.size());
  for (const ExpertErrors& one : each) {
    mean.gate += one.gate / count;
    mean.up += one.up / count;
    mean.down += one.down / count;
  }
  return mean;
}

const RoundedExpert& ExpertRounding::Find(int64_t layer, int64_t expert,
                                          const ExpertFormats& formats) {
  Load(layer);
  const auto have = static_cast<int64_t>(experts_.size());
  if (expert < first_ || expert >= first_ + have) {
    const int64_t most =
        std::clamp<int64_t>(kMostBytes / layer_->bytes(), 1, Threads());
    first_ = expert;
    experts_.clear();
    experts_.resize(
        static_cast<size_t>(std::min(most, layer_->experts() - expert)));
    ParallelFor(static_cast<int64_t>(experts_.size()), [&](int64_t i) {
      layer_->Round(first_ + i, formats, &experts_[static_cast<size_t>(i)]);
    });
  }
  return experts_[static_cast<size_t>(expert - first_)];
}

}  // namespace mobe
