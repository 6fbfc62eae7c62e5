#include "compress/weighed_rounding.h"

#include <algorithm>
#include <utility>

#include "compress/embedding_norm.h"
#include "fit/weighted_solve.h"
#include "io/fp8.h"

namespace mobe {
namespace {

bool IsBases(const TensorSpec& spec) {
  const MatrixKind* kind = KindOf(spec.role);
  return kind != nullptr && spec.role == kind->bases;
}

bool IsAlpha(const TensorSpec& spec) {
  const MatrixKind* kind = KindOf(spec.role);
  return kind != nullptr && spec.role == kind->alpha;
}

// Where an expert's matrix of the role has its format; null for other tensors.
template <class Formats>
auto* FormatIn(Formats& formats, Role role) {
  return role == Role::kExpertGate   ? &formats.gate
         : role == Role::kExpertUp   ? &formats.up
         : role == Role::kExpertDown ? &formats.down
                                     : nullptr;
}

}  // namespace

WeighedRounding::WeighedRounding(const OpenedModel& model,
                                 const OpenedModel* original,
                                 const std::filesystem::path& moments,
                                 const FormatOfFn& format_of, MoveBasesFn move)
    : model_(model),
      format_of_(format_of),
      experts_(
          model, original, moments,
          [this](const TensorView& bases) {
            return FormatOfBases(*bases_.at(bases.name));
          },
          // Moved bases want another A.
          [this, move = std::move(move)](const BasesJob& job,
                                         Factors* factors) {
            if (RoundsA(job)) move(job, factors);
          }),
      inputs_(moments, model.config) {
  for (const TensorSpec& spec : model.tensors) {
    if (IsBases(spec)) {
      bases_[spec.name] = &spec;
      if (FormatOfBases(spec) != nullptr) moving_.insert(spec.layer);
    }
    if (IsAlpha(spec)) alphas_[spec.name] = &spec;
    ExpertFormats none;
    if (FormatIn(none, spec.role) == nullptr) continue;
    // A of down meets its input by rows.
    const bool is_turned =
        spec.role == Role::kExpertDown && model.Factored(spec.layer, kDownKind);
    const FormatRow* format = is_turned ? nullptr : format_of(spec);
    // One that is packed already stays as it is.
    if (model.checkpoint.At(spec.name).packed != nullptr) format = nullptr;
    *FormatIn(formats_[{spec.layer, spec.expert}], spec.role) = format;
  }
}

const FormatRow* WeighedRounding::FormatOfBases(const TensorSpec& spec) const {
  return model_.checkpoint.At(spec.name).packed != nullptr ? nullptr
                                                           : format_of_(spec);
}

bool WeighedRounding::RoundsA(const BasesJob& job) const {
  for (int64_t e = 0; e < job.group.count; ++e) {
    const ExpertFormats& formats =
        formats_.at({job.layer, job.group.first + e});
    if (*FormatIn(formats, job.kind->expert) == nullptr) return false;
  }
  return true;
}

const RoundedMatrix* WeighedRounding::Find(const TensorSpec& spec) {
  if (IsBases(spec)) return experts_.FindBases(spec);
  if (spec.expert < 0) return RoundByInput(spec);
  const ExpertFormats& formats = formats_.at({spec.layer, spec.expert});
  const FormatRow* const* const format = FormatIn(formats, spec.role);
  if (format == nullptr || *format == nullptr) return nullptr;
  return FormatIn(experts_.Find(spec.layer, spec.expert, formats), spec.role);
}

const Buffer<float>* WeighedRounding::FindMoved(const std::string& name) {
  const auto found = alphas_.find(name);
  // A layer is loaded only where there is something to find.
  if (found == alphas_.end() || !moving_.contains(found->second->layer)) {
    return nullptr;
  }
  return experts_.FindAlpha(*found->second);
}

const RoundedMatrix* WeighedRounding::RoundByInput(const TensorSpec& spec) {
  const std::string name = InputName(model_.config, spec);
  const FormatRow* format = format_of_(spec);
  if (name.empty() || format == nullptr) return nullptr;
  const int64_t cols = spec.shape.back();
  if (input_ != name) {
    InputMoment input = inputs_.Of(spec);
    if (spec.role == Role::kEmbedding) {
      norm_ = EmbeddingNorm(model_, std::move(input.moment));
    } else {
      norm_.moment = std::move(input.moment);
      if (norm_.moment.size() > 0) {
        AddFloor(cols, &norm_.moment);
        FactorMoment(cols, &norm_);
      }
    }
    input_ = name;
  }
  if (norm_.moment.size() == 0) return nullptr;
  const TensorView& tensor = model_.checkpoint.At(spec.name);
  Buffer<float> matrix(tensor.elements());
  LoadFloats(tensor, matrix.data());
  RoundWithFeedback(*format, matrix.data(), matrix.size() / cols, cols, norm_,
                    &rounded_);
  return &rounded_;
}

Buffer<float> WeighedRounding::ImportanceOf(const TensorSpec& spec) const {
  return inputs_.Of(spec).squares;
}

}  // namespace mobe
