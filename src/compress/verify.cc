#include "compress/verify.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "compress/packed_parts.h"
#include "compress/recipe.h"
#include "compress/verify_side_files.h"
#include "io/fp8.h"
#include "io/hub.h"
#include "mobe/copy_tensors.h"
#include "mobe/measure.h"
#include "mobe/parts.h"
#include "mobe/stacked.h"
#include "mobe/tensors.h"
#include "mobe/zeros.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// Adds what differs from recipe.json, where there is one.
void CheckRecipe(const fs::path& folder, VerifyReport* report) {
  try {
    const std::optional<Recipe> recipe = ReadRecipe(folder);
    if (!recipe) return;
    for (std::string& fault : CheckFiles(*recipe, folder)) {
      report->faults.push_back(std::move(fault));
    }
    report->files_checked = static_cast<int64_t>(recipe->files.size());
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kCorruptFile &&
        e.kind() != ErrorKind::kMissing) {
      throw;
    }
    report->faults.emplace_back(e.what());
  }
}

class Verifier {
 public:
  Verifier(const fs::path& folder, const OpenedModel& original,
           const ProgressFn& progress)
      : checkpoint_(folder),
        original_(original),
        progress_(progress),
        keeps_fp8_(IsFp8Config(checkpoint_.config())) {}

  VerifyReport Run() {
    SplitStacked(*original_.family, original_.config, &checkpoint_);
    format_ = DetectFormat(*original_.family, checkpoint_, original_.config);
    CheckConfig();
    const auto specs =
        format_ ? ListTensors(*original_.family, original_.config, *format_)
                : ListTensors(*original_.family, original_.config);
    std::unordered_map<std::string, const TensorSpec*> expected;
    for (const TensorSpec& spec : specs) {
      expected[spec.name] = &spec;
      if (QuantPartOf(spec) != nullptr) {
        checkpoint_.LinkPacked(spec.name, spec.shape);
      }
      if (auto fault = CheckTensor(checkpoint_, spec)) {
        Fault(*fault);
      } else {
        CheckDType(spec);
      }
    }
    CheckUntouched(expected);
    CheckExtra(expected);
    const bool measurable = report_.faults.empty();
    CheckRecipe(checkpoint_.folder(), &report_);
    CheckSideFiles();
    // Errors can be measured only on a model whose shapes are right.
    if (measurable) {
      OpenedModel opened{std::move(checkpoint_), original_.family,
                         original_.config, format_, specs};
      MeasureAll(opened);
    }
    if (!unwritten_.empty()) {
      progress_(Warning(
          UnwrittenWarning(original_.checkpoint, std::move(unwritten_))));
    }
    return std::move(report_);
  }

 private:
  void Fault(std::string text) { report_.faults.push_back(std::move(text)); }

  void CheckConfig() {
    const Json plain = PlainConfig(checkpoint_.config());
    Json base = PlainConfig(original_.checkpoint.config());
    if (!keeps_fp8_) {
      base = ConfigWithoutFp8(base);
    } else if (format_) {
      const auto& tensors = checkpoint_.tensors();
      std::vector<TensorDecl> decls;
      decls.reserve(tensors.size());
      for (const TensorView* tensor : tensors) decls.push_back(*tensor);
      base = ConfigWithFp8(base, decls);
    }
    for (const JsonDifference& d : Differences(base, plain)) {
      Fault(fmt::format("{}: \"{}\" is {}, expected {} as in {}",
                        checkpoint_.config_path(), d.key, Excerpt(d.after),
                        Excerpt(d.before), original_.checkpoint.config_path()));
    }
  }

  // True for matrices that may differ from the original: those that are
  // factored, and in a plain (reconstructed) model all that may have been. What
  // reconstructs keeps no FP8.
  bool IsApproximate(const TensorSpec& spec) const {
    const MatrixKind* kind = KindOf(spec.role);
    if (kind == nullptr) return false;
    return format_ ? format_->Find(spec.layer, *kind) != nullptr : !keeps_fp8_;
  }

  // Factors have the dtype of the matrices that they stand for. So do rebuilt
  // ones, where those differ either that of the factors (reconstruct) or each
  // its own (a baseline).
  void CheckDType(const TensorSpec& spec) {
    const MatrixKind* kind = KindOf(spec.role);
    // Copies are held against the original.
    if (kind == nullptr || !IsApproximate(spec)) return;
    const TensorView& tensor = checkpoint_.At(spec.name);
    if (tensor.packed != nullptr) return;
    const DType want = FactorDType(original_, spec.layer, *kind);
    if (tensor.dtype == want) return;
    if (!format_ && spec.role == kind->expert &&
        tensor.dtype == ComputedDType(original_.checkpoint.At(spec.name))) {
      return;
    }
    Fault(fmt::format("{}: tensor {} has dtype {}, expected {}",
                      checkpoint_.FileOf(tensor), tensor.name,
                      DTypeName(tensor.dtype), DTypeName(want)));
  }

  // Tensors that the method leaves alone must be the same bytes, but that FP8
  // may have become BF16; then its scales are gone.
  void CheckUntouched(
      const std::unordered_map<std::string, const TensorSpec*>& expected) {
    const auto& tensors = original_.checkpoint.tensors();
    for (const TensorView* original : tensors) {
      const TensorView* copy = checkpoint_.Find(original->name);
      const auto spec = expected.find(original->name);
      if (spec != expected.end() && IsApproximate(*spec->second)) continue;
      if (IsStaleScale(*original)) continue;
      if (copy == nullptr) {
        if (spec == expected.end()) {
          Fault(fmt::format("{}: no tensor {}, expected a copy of the original",
                            checkpoint_.folder().string(), original->name));
        }
        continue;
      }
      if (copy->packed != nullptr) {
        CheckPacked(*spec->second, *original, *copy);
        continue;
      }
      const bool expanded = original->scales != nullptr && !keeps_fp8_;
      const DType want = expanded ? ComputedDType(*original) : original->dtype;
      if (copy->dtype != want) {
        Fault(fmt::format("{}: tensor {} has dtype {}, expected {}",
                          checkpoint_.FileOf(*copy), copy->name,
                          DTypeName(copy->dtype), DTypeName(want)));
      } else if (copy->shape != original->shape) {
        // Of a tensor of the table that is a fault already.
        if (spec == expected.end()) {
          Fault(fmt::format("{}: tensor {} has shape {}, expected {}",
                            checkpoint_.FileOf(*copy), copy->name, copy->shape,
                            original->shape));
        }
      } else if (!IsCopy(*original, *copy)) {
        Fault(
            fmt::format("{}: tensor {} differs from the original, expected "
                        "the same {}",
                        checkpoint_.FileOf(*copy), copy->name,
                        expanded ? "values, in bfloat16" : "bytes"));
      } else {
        CheckValues(*copy);
      }
      checkpoint_.Evict(*copy);
      original_.checkpoint.Evict(*original);
    }
  }

  // What stands for a matrix is nearer to it than zeros are. What was fitted or
  // rounded for a text need not be: it keeps what is read of the matrix, at the
  // cost of all else (2 bits: an error of 1.11 was seen, with a likeness of
  // 0.61). Matrices that have nothing to do with each other have a likeness of
  // 0, and where they are of one size an error of 1.41.
  void CheckNear(const Checkpoint& checkpoint, const TensorView& tensor,
                 double relative, double likeness) {
    if (relative < 1 || (relative < 1.5 && likeness > 0.3)) return;
    Fault(
        fmt::format("{}: tensor {}: relative error {:.4f} against the "
                    "original, expected below 1",
                    checkpoint.FileOf(tensor), tensor.name, relative));
  }

  // A packed matrix has to be near what it stands for.
  void CheckPacked(const TensorSpec& spec, const TensorView& original,
                   const TensorView& copy) {
    const Loss loss = MeasureLoss(original, copy);
    CheckNear(checkpoint_, copy, loss.relative(), loss.likeness());
    AddPackedPart(PackedPartOf(spec, *copy.packed, original.bytes(), loss),
                  &report_.packed);
    checkpoint_.Evict(copy);
    original_.checkpoint.Evict(original);
  }

  // Of a copy that is equal to the original.
  void CheckValues(const TensorView& copy) {
    const TensorScan scan = ScanTensor(copy);
    if (scan.first_not_finite >= 0) {
      Fault(
          fmt::format("{}: tensor {} holds values that are not finite, as "
                      "does the original",
                      checkpoint_.FileOf(copy), copy.name));
      return;
    }
    ++report_.tensors_equal;
    if (LooksUnwritten(copy, scan)) unwritten_.push_back(copy.name);
  }

  // Of the original: scales of a matrix that is FP8 no more.
  bool IsStaleScale(const TensorView& original) const {
    if (original.scaled == nullptr) return false;
    const TensorView* matrix = checkpoint_.Find(original.scaled->name);
    return matrix != nullptr && matrix->dtype != original.scaled->dtype;
  }

  void CheckExtra(
      const std::unordered_map<std::string, const TensorSpec*>& expected) {
    for (const TensorView* tensor : checkpoint_.tensors()) {
      if (tensor->scaled != nullptr && tensor->scaled->packed != nullptr) {
        continue;
      }
      const TensorView* original = original_.checkpoint.Find(tensor->name);
      if (!expected.contains(tensor->name) &&
          (original == nullptr || IsStaleScale(*original))) {
        Fault(fmt::format("{}: tensor {} is not expected",
                          checkpoint_.FileOf(*tensor), tensor->name));
      }
    }
  }

  void CheckSideFiles() {
    SideFileFindings found =
        CompareSideFiles(original_.checkpoint.folder(), checkpoint_.folder());
    for (std::string& fault : found.faults) Fault(std::move(fault));
    for (const std::string& line : found.warnings) progress_(Warning(line));
  }

  void MeasureAll(const OpenedModel& opened) {
    // The matrices of IsApproximate.
    std::vector<std::pair<int64_t, const MatrixKind*>> matrices;
    for (const int64_t layer : opened.config.MoeLayers()) {
      for (const MatrixKind& kind : kMatrixKinds) {
        if (format_ && !format_->Find(layer, kind)) continue;
        matrices.emplace_back(layer, &kind);
      }
    }
    for (size_t i = 0; i < matrices.size(); ++i) {
      const auto& [layer, kind] = matrices[i];
      const MatricesError error =
          MeasureMatrices(original_, opened, layer, *kind, &unwritten_);
      const TensorView& worst =
          opened.At(kind->expert, layer, error.worst_expert_index);
      CheckNear(opened.checkpoint, worst, error.worst_expert,
                error.worst_likeness);
      // An exact copy is no approximation and needs no row.
      if (error.relative > 0) {
        report_.matrices.push_back({layer, kind->name, error});
      }
      progress_(
          {static_cast<double>(i + 1) / static_cast<double>(matrices.size()),
           fmt::format("layer {} {}", layer, kind->name)});
    }
  }

  Checkpoint checkpoint_;
  const OpenedModel& original_;
  const ProgressFn& progress_;
  const bool keeps_fp8_;
  std::optional<MobeFormat> format_;  // of the checkpoint
  VerifyReport report_;
  std::vector<std::string> unwritten_;  // of the original (mobe/zeros.h)
};

}  // namespace

VerifyReport Verify(const fs::path& folder, const OpenedModel& original,
                    const ProgressFn& progress) {
  return Verifier(folder, original, progress).Run();
}

VerifyReport VerifyFiles(const fs::path& folder) {
  VerifyReport report;
  CheckRecipe(folder, &report);
  if (report.faults.empty() && !report.files_checked) {
    CheckModelFolder(folder);
    Fail(ErrorKind::kUserInput,
         "{}: no recipe.json to check its files by; name the original with "
         "--against",
         folder.string());
  }
  return report;
}

}  // namespace mobe
