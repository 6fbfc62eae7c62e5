#include "compress/bit_choice.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "compress/bases_rounding.h"
#include "compress/expert_rounding.h"
#include "compress/split.h"
#include "io/fp8.h"
#include "mobe/copy_tensors.h"
#include "tensor/planes.h"

namespace mobe {
namespace {

// Experts of a layer whose errors are measured.
constexpr int64_t kSample = 6;
// The known error by which damage is measured: of the size that rounding to
// three or four bits has.
constexpr float kDisturbance = 0.125f;

// Of the refit by which bases are moved for that, rounded to 3 bits: what
// serves those serves more bits, too. Half as many find nearly as much.
constexpr int64_t kChoicePasses = 15;

// What an expert's matrices, and the bases in their place, are rounded to.
struct Form {
  const OpenedModel* factored = nullptr;  // null: it is not
  const FormatRow* a = nullptr;
  const FormatRow* bases = nullptr;
  const FormatRow* down = nullptr;  // null: not measured with this one
};

const QuantPart* PartA() { return QuantPartFromName("a"); }
const QuantPart* PartBases() { return QuantPartFromName("bases"); }
const QuantPart* PartDown() { return QuantPartFromName("down"); }

std::vector<Form> ListForms(std::span<const OpenedModel> factored) {
  std::vector<const FormatRow*> packed;
  for (const FormatRow& row : Formats()) {
    if (row.packed()) packed.push_back(&row);
  }
  std::vector<Form> forms;
  forms.reserve(packed.size());
  for (const FormatRow* row : packed) forms.push_back({nullptr, row, {}, row});
  // Bases are few, and all experts' errors: of about as many bits as A.
  for (const OpenedModel& model : factored) {
    for (const FormatRow* a : packed) {
      for (const FormatRow* bases : packed) {
        if (std::abs(a->bits - bases->bits) <= 2) {
          forms.push_back({&model, a, bases, nullptr});
        }
      }
    }
  }
  return forms;
}

const FormatRow* FormatIn(const Form& form, const TensorSpec& spec) {
  const QuantPart* part = QuantPartOf(spec);
  const FormatRow* format = part == nullptr       ? nullptr
                            : part == PartA()     ? form.a
                            : part == PartBases() ? form.bases
                            : part == PartDown()  ? form.down
                                                  : nullptr;
  return format != nullptr && PlaneShapesOf(*format, spec.shape) ? format
                                                                 : nullptr;
}

int64_t BytesOf(const OpenedModel& model, const TensorSpec& spec,
                const FormatRow* format) {
  if (format != nullptr) return PlaneBytes(*format, spec.shape);
  std::vector<TensorDecl> copies;
  AddCopy(model.checkpoint.At(spec.name), /*keep_fp8=*/false, &copies);
  int64_t bytes = 0;
  for (const TensorDecl& copy : copies) bytes += copy.bytes();
  return bytes;
}

// Of all that no choice is about.
int64_t FixedBytes(const OpenedModel& model, const PackRule& rule) {
  std::unordered_set<std::string> known;
  int64_t bytes = 0;
  for (const TensorSpec& spec : model.tensors) {
    known.insert(spec.name);
    if (KindOf(spec.role) != nullptr) continue;
    bytes += BytesOf(model, spec, FormatFor(spec, rule));
  }
  std::vector<TensorDecl> others;
  AddOtherCopies(model.checkpoint, known, /*keep_fp8=*/false, &others);
  for (const TensorDecl& copy : others) bytes += copy.bytes();
  return bytes;
}

// A kind's matrices with each row longer or shorter by kDisturbance: a relative
// error of its square in any norm.
Buffer<BFloat16> Disturbed(const OpenedModel& model, int64_t layer,
                           const MatrixKind& kind) {
  const std::vector<int64_t>& shape = model.At(kind.expert, layer, 0).shape;
  const int64_t cols = shape[1];
  const int64_t size = shape[0] * cols;
  Buffer<BFloat16> matrices(model.config.num_experts * size);
  ParallelFor(model.config.num_experts, [&](int64_t e) {
    thread_local Buffer<float> matrix;
    matrix.Resize(size);
    const TensorView& tensor = model.At(kind.expert, layer, e);
    LoadFloats(tensor, matrix.data());
    for (int64_t r = 0; r < shape[0]; ++r) {
      // Any sequence of signs without a pattern: bits of a multiplied counter.
      const uint64_t mixed =
          static_cast<uint64_t>(e * shape[0] + r + 1) * 0x9E3779B97F4A7C15u;
      const float factor =
          (mixed >> 40 & 1) != 0 ? 1 + kDisturbance : 1 - kDisturbance;
      for (int64_t c = 0; c < cols; ++c) matrix[r * cols + c] *= factor;
    }
    Kernels().to_bfloat16(matrix.data(), size, matrices.data() + e * size);
    model.checkpoint.Evict(tensor);
  });
  return matrices;
}

using Damages = std::map<std::pair<int64_t, const MatrixKind*>, double>;

// KL divergence for each unit of squared relative error.
Damages MeasureDamages(const OpenedModel& model,
                       const std::vector<int64_t>& layers,
                       const DamageFn& measure_damage,
                       const ProgressFn& progress) {
  std::vector<LayerKind> matrices;
  for (const int64_t layer : layers) {
    for (const MatrixKind& kind : kMatrixKinds) {
      matrices.push_back({layer, &kind});
    }
  }
  const std::vector<double> measured = measure_damage(
      matrices,
      [&](int64_t layer, const MatrixKind& kind) {
        return Disturbed(model, layer, kind);
      },
      progress);
  Damages damages;
  for (size_t i = 0; i < matrices.size(); ++i) {
    damages[{matrices[i].layer, matrices[i].kind}] =
        measured[i] / (kDisturbance * kDisturbance);
  }
  return damages;
}

// Gate and up of a layer, or its down: what it may be, and the form of each.
struct Unit {
  int64_t layer = 0;
  bool is_down = false;
  std::vector<SplitChoice> choices;
  std::vector<const Form*> forms;
};

struct FormBytes {
  int64_t gate_and_up = 0;
  int64_t down = 0;
};
std::map<int64_t, FormBytes> BytesByLayer(const OpenedModel& model,
                                          const Form& form) {
  std::map<int64_t, FormBytes> layers;
  for (const TensorSpec& spec : model.tensors) {
    const MatrixKind* kind = KindOf(spec.role);
    if (kind == nullptr) continue;
    FormBytes& layer = layers[spec.layer];
    (kind == &kDownKind ? layer.down : layer.gate_and_up) +=
        BytesOf(model, spec, FormatIn(form, spec));
  }
  return layers;
}

bool CanTake(const Form& form, int64_t layer) {
  return form.factored == nullptr ||
         form.factored->Factored(layer, kGateKind) != nullptr;
}

// Of all layers, with sizes; damages are 0.
std::vector<Unit> ListUnits(const OpenedModel& model,
                            const std::vector<int64_t>& layers,
                            const std::vector<Form>& forms) {
  std::vector<Unit> units;
  for (const int64_t layer : layers) {
    units.push_back({layer, false, {}, {}});
    units.push_back({layer, true, {}, {}});
  }
  for (const Form& form : forms) {
    const OpenedModel& source = form.factored ? *form.factored : model;
    const std::map<int64_t, FormBytes> sizes = BytesByLayer(source, form);
    for (Unit& unit : units) {
      if (!CanTake(form, unit.layer)) continue;
      if (unit.is_down && form.down == nullptr) continue;
      const FormBytes& size = sizes.at(unit.layer);
      unit.choices.push_back(
          {0, 0, unit.is_down ? size.down : size.gate_and_up, 0});
      unit.forms.push_back(&form);
    }
  }
  return units;
}

using FormErrors = std::map<std::pair<const Form*, int64_t>, ExpertErrors>;

// Bases of a layer's factors, as they are for all forms.
class MovedBases {
 public:
  MovedBases(int64_t passes, BasesPassFn on_pass)
      : move_(RefitBases(passes, std::move(on_pass))) {}

  void Move(const Form& form, const BasesJob& job, Factors* factors) {
    Factors& moved =
        moved_[{form.factored, job.layer, job.kind, job.group.index}];
    if (moved.bases.size() == 0) {
      BasesJob coarse = job;
      coarse.format = &kInt3Format;
      move_(coarse, factors);
      moved.bases.CopyFrom(factors->bases);
      moved.alpha.CopyFrom(factors->alpha);
    } else {
      factors->bases.CopyFrom(moved.bases);
      factors->alpha.CopyFrom(moved.alpha);
    }
  }
  void Clear() { moved_.clear(); }

 private:
  MoveBasesFn move_;
  std::map<std::tuple<const OpenedModel*, int64_t, const MatrixKind*, int64_t>,
           Factors>
      moved_;
};

// The formats of a layer's matrices in a form.
ExpertFormats FormatsIn(const Form& form, const OpenedModel& source,
                        int64_t layer) {
  const auto format = [&](Role role, const FormatRow* row) {
    return row != nullptr &&
                   PlaneShapesOf(*row, source.At(role, layer, 0).shape)
               ? row
               : nullptr;
  };
  return {format(Role::kExpertGate, form.a), format(Role::kExpertUp, form.a),
          format(Role::kExpertDown, form.down)};
}

// Of some experts of each layer in each form.
FormErrors MeasureErrors(const OpenedModel& model,
                         const std::vector<int64_t>& layers,
                         const std::vector<Form>& forms, int64_t refit_passes,
                         const std::filesystem::path& moments,
                         const ProgressFn& progress) {
  const int64_t experts = model.config.num_experts;
  std::vector<int64_t> sample;
  const int64_t count = std::min(kSample, experts);
  for (int64_t i = 0; i < count; ++i) {
    sample.push_back((2 * i + 1) * experts / (2 * count));
  }
  FormErrors errors;
  double done = 0;
  const auto show = [&](std::string what) {
    progress({done / static_cast<double>(forms.size() * layers.size()),
              std::move(what)});
  };
  MovedBases moved(refit_passes,
                   [&](const BasesJob& job, int64_t pass, int64_t passes) {
                     show(RefitText(job, pass, passes));
                   });
  for (const int64_t layer : layers) {
    for (const Form& form : forms) {
      show(fmt::format("error of layer {} in {}", layer, form.a->name));
      done += 1;
      if (!CanTake(form, layer)) continue;
      const OpenedModel& source = form.factored ? *form.factored : model;
      ExpertRounding rounding(
          source, form.factored ? &model : nullptr, moments,
          [&](const TensorView& bases) {
            return PlaneShapesOf(*form.bases, bases.shape) ? form.bases
                                                           : nullptr;
          },
          [&](const BasesJob& job, Factors* factors) {
            moved.Move(form, job, factors);
          });
      errors[{&form, layer}] =
          rounding.Measure(layer, sample, FormatsIn(form, source, layer));
    }
    moved.Clear();
  }
  return errors;
}

// Adds a format of some layers, in one entry with the layer before.
void AddFormat(int64_t layer, const QuantPart* part, const FormatRow* format,
               std::vector<PartFormat>* formats) {
  for (PartFormat& one : *formats) {
    if (one.part == part && one.format == format &&
        one.last_layer == layer - 1) {
      one.last_layer = layer;
      return;
    }
  }
  formats->push_back({part, format, layer, layer});
}

// Of gate and up in factors of 2 bits; as much as there can be where the layer
// is not factored.
int64_t LeastOfFactors(const OpenedModel& model, const MobeFormat& format,
                       int64_t layer) {
  const int64_t experts = model.config.num_experts;
  const auto packed = [](const std::vector<int64_t>& shape) {
    return PlaneShapesOf(kInt2Format, shape) ? PlaneBytes(kInt2Format, shape)
                                             : 0;
  };
  int64_t bytes = 0;
  for (const MatrixKind* kind : {&kGateKind, &kUpKind}) {
    const FactorShape* f = format.Find(layer, *kind);
    if (f == nullptr) return std::numeric_limits<int64_t>::max();
    const std::vector<int64_t>& shape = model.At(kind->expert, layer, 0).shape;
    bytes += experts * packed({shape[0], f->rank}) +
             packed({f->num_bases, f->rank, shape[1]}) +
             experts * f->num_bases / f->groups * DTypeSize(DType::kBF16);
  }
  return bytes;
}

[[noreturn]] void FailForLeast(const OpenedModel& model, int64_t bytes,
                               int64_t least, int64_t fixed) {
  const auto text = [](int64_t count) {
    return FormatBytes(static_cast<double>(count));
  };
  Fail(ErrorKind::kUserInput,
       "{}: {} are asked for, and {} are the least: experts in 2 bits, {} for "
       "all else",
       model.checkpoint.folder().string(), text(bytes), text(least),
       text(fixed));
}

}  // namespace

void CheckBytes(const OpenedModel& model, std::span<const OpenedModel> factored,
                const PackRule& rule, int64_t bytes) {
  const std::vector<Form> forms = ListForms(factored);
  const int64_t fixed = FixedBytes(model, rule);
  int64_t least = fixed;
  for (const Unit& unit : ListUnits(model, model.config.MoeLayers(), forms)) {
    least += std::ranges::min(unit.choices, {}, &SplitChoice::size).size;
  }
  if (least > bytes) FailForLeast(model, bytes, least, fixed);
}

void CheckBytesBeforeFit(const OpenedModel& model,
                         std::span<const MobeFormat> factored,
                         const PackRule& rule, int64_t bytes) {
  const std::vector<Form> forms = ListForms({});
  const int64_t fixed = FixedBytes(model, rule);
  int64_t least = fixed;
  for (const Unit& unit : ListUnits(model, model.config.MoeLayers(), forms)) {
    int64_t size = std::ranges::min(unit.choices, {}, &SplitChoice::size).size;
    for (const MobeFormat& format : factored) {
      if (unit.is_down) continue;
      size = std::min(size, LeastOfFactors(model, format, unit.layer));
    }
    least += size;
  }
  if (least > bytes) FailForLeast(model, bytes, least, fixed);
}

BitChoice ChooseBits(const OpenedModel& model,
                     std::span<const OpenedModel> factored,
                     const PackRule& rule, int64_t bytes,
                     const std::filesystem::path& moments,
                     const DamageFn& measure_damage,
                     const ProgressFn& progress) {
  const std::vector<int64_t> layers = model.config.MoeLayers();
  const std::vector<Form> forms = ListForms(factored);
  std::vector<Unit> units = ListUnits(model, layers, forms);
  const int64_t fixed = FixedBytes(model, rule);

  Damages damages = MeasureDamages(model, layers, measure_damage, progress);
  FormErrors errors = MeasureErrors(model, layers, forms,
                                    std::min(rule.refit_passes, kChoicePasses),
                                    moments, progress);
  std::vector<std::vector<SplitChoice>> choices;
  for (Unit& unit : units) {
    const auto damage = [&](const MatrixKind& kind) {
      return damages[{unit.layer, &kind}];
    };
    for (size_t k = 0; k < unit.choices.size(); ++k) {
      const ExpertErrors& error = errors[{unit.forms[k], unit.layer}];
      unit.choices[k].damage = unit.is_down ? damage(kDownKind) * error.down
                                            : damage(kGateKind) * error.gate +
                                                  damage(kUpKind) * error.up;
    }
    choices.push_back(unit.choices);
  }
  const std::vector<size_t> chosen = AllocateSplit(choices, bytes - fixed);

  BitChoice result;
  result.bytes = fixed;
  int64_t most = fixed;  // that any layer makes use of
  for (size_t i = 0; i < units.size(); ++i) {
    const int64_t layer = units[i].layer;
    const Form& form = *units[i].forms[chosen[i]];
    most += std::ranges::min(units[i].choices, {}, &SplitChoice::damage).size;
    result.bytes += units[i].choices[chosen[i]].size;
    result.divergence += units[i].choices[chosen[i]].damage;
    if (units[i].is_down) {
      AddFormat(layer, PartDown(), form.down, &result.formats);
      continue;
    }
    AddFormat(layer, PartA(), form.a, &result.formats);
    if (form.factored == nullptr) continue;
    AddFormat(layer, PartBases(), form.bases, &result.formats);
    result.factored_layers[layer] =
        static_cast<size_t>(form.factored - factored.data());
  }
  if (most < bytes) {
    progress(Warning(fmt::format(
        "{} are asked for, and {} are the most that can be of use: experts in "
        "8 bits",
        FormatBytes(static_cast<double>(bytes)),
        FormatBytes(static_cast<double>(most)))));
  }
  return result;
}

}  // namespace mobe
