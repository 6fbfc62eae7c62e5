#include "compress/quantize.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "compress/model_card.h"
#include "compress/weighed_rounding.h"
#include "compress/write_model.h"
#include "io/fp8.h"
#include "mobe/copy_tensors.h"
#include "mobe/packed_model.h"
#include "mobe/tensors.h"

namespace mobe {
namespace {

void CheckParts(const OpenedModel& model, const QuantizeOptions& options) {
  // Nothing else reads what would be written.
  CheckRuns(*model.family, model.checkpoint.folder().string());
  bool any = false;
  for (const TensorSpec& spec : model.tensors) {
    const FormatRow* format = FormatFor(spec, options.rule);
    const TensorView& tensor = model.checkpoint.At(spec.name);
    if (format == nullptr || tensor.packed == format) continue;
    if (tensor.packed != nullptr) {
      Fail(ErrorKind::kUserInput,
           "{}: tensor {} is {} already; quantise the model that this one was "
           "made from",
           model.checkpoint.folder().string(), spec.name, tensor.packed->name);
    }
    any = true;
  }
  if (any) return;
  Fail(ErrorKind::kUserInput,
       "{}: has no matrix left to quantise in the parts that were asked for",
       model.checkpoint.folder().string());
}

// What the recipes say of the fits whose factors are stored.
struct FitRecords {
  Json options = Json::array();  // [{"layers", "options"}]
  std::vector<RecipeMatrix> matrices;
};

FitRecords RecordsOf(const OpenedModel& original,
                     const QuantizeOptions& options) {
  std::vector<QuantizeOptions::Fit> fits = options.fits;
  if (fits.empty() && original.mobe) {
    const std::vector<int64_t> layers = original.mobe->Layers();
    fits.push_back(
        {original.checkpoint.folder(), {layers.begin(), layers.end()}});
  }
  FitRecords records;
  for (const QuantizeOptions::Fit& fit : fits) {
    const std::set<int64_t>& layers = fit.layers;
    const std::optional<Recipe> recipe = ReadRecipe(fit.folder);
    if (!recipe) continue;
    // A model whose factors are in few bits in part tells of its own fits.
    const Json before = recipe->options.value("fits", Json::array());
    if (before.empty()) {
      records.options.push_back(
          {{"layers", layers}, {"options", recipe->options}});
    } else {
      records.options.insert(records.options.end(), before.begin(),
                             before.end());
    }
    std::ranges::copy_if(recipe->matrices, std::back_inserter(records.matrices),
                         [&](const RecipeMatrix& matrix) {
                           return layers.contains(matrix.layer);
                         });
  }
  std::ranges::stable_sort(records.matrices, {}, &RecipeMatrix::layer);
  return records;
}

Json OptionsOfQuantize(const OpenedModel& model, const QuantizeOptions& options,
                       const Json& fits) {
  Json json = {
      {"command", "quantize"},
      {"mobe", MOBE_VERSION},
      {"shard_bytes", options.shard_bytes},
      {"calibrate", options.calibration ? options.calibration->hash : ""}};
  json.update(RuleJson(options.rule));
  if (options.calibration && model.mobe) {
    json["refit_passes"] = options.rule.refit_passes;
  }
  json.update(options.choice);
  if (!fits.empty()) json["fits"] = fits;
  return json;
}

}  // namespace

std::optional<QuantizeReport> Quantize(const OpenedModel& original,
                                       const std::filesystem::path& out,
                                       const QuantizeOptions& options,
                                       const ProgressFn& progress) {
  const OpenedModel& model = options.mixed ? *options.mixed : original;
  CheckParts(model, options);
  const auto format_of = [&](const TensorSpec& spec) {
    const FormatRow* packed = model.checkpoint.At(spec.name).packed;
    return packed != nullptr ? packed : FormatFor(spec, options.rule);
  };
  WriteJob job;
  std::unordered_set<std::string> known;
  for (const TensorSpec& spec : ExpertByExpert(model.tensors)) {
    const TensorView& tensor = model.checkpoint.At(spec.name);
    known.insert(spec.name);
    if (format_of(spec) != nullptr) {
      job.tensors.push_back(tensor);
    } else {
      AddCopy(tensor, /*keep_fp8=*/false, &job.tensors);
    }
  }
  AddOtherCopies(model.checkpoint, known, /*keep_fp8=*/false, &job.tensors);
  const Packing packing = PackTensors(model.tensors, format_of, &job.tensors);

  double fraction = 0;
  const ProgressFn watched = [&](const ProgressEvent& event) {
    if (event.warning.empty()) fraction = event.fraction;
    progress(event);
  };
  const auto on_pass = [&](const BasesJob& bases, int64_t pass,
                           int64_t passes) {
    CheckStop(options.stop);
    progress({fraction, RefitText(bases, pass, passes)});
  };
  std::optional<WeighedRounding> rounding;
  if (options.calibration) {
    job.work_bytes = options.calibration->bytes;
    job.begin = [&](Journal*) {
      EnsureMoments(*options.calibration, out, options.stop, progress);
      rounding.emplace(model, options.mixed ? &original : nullptr,
                       internal::MomentsPath(out), format_of,
                       RefitBases(options.rule.refit_passes, on_pass));
    };
  }
  PlaneWriter writer(
      model, packing,
      [&](const TensorSpec& spec) -> const TensorView& {
        const TensorView& tensor = model.checkpoint.At(spec.name);
        if (tensor.packed == nullptr) CheckFinite(model, tensor);
        return tensor;
      },
      [&](const TensorSpec& spec) {
        return rounding ? rounding->ImportanceOf(spec) : Buffer<float>();
      },
      [&](const TensorSpec& spec) {
        return rounding ? rounding->Find(spec) : nullptr;
      });
  job.source = [&](const TensorDecl& decl, const ByteSink& sink) {
    if (!writer.Write(decl, sink)) {
      const Buffer<float>* moved =
          rounding ? rounding->FindMoved(decl.name) : nullptr;
      if (moved != nullptr) {
        PassFloats(*moved, decl.dtype, sink);
      } else {
        CopyTensor(model.checkpoint, decl, sink);
      }
      return;
    }
    const std::string& name = packing.planes.at(decl.name).spec.name;
    model.checkpoint.Evict(model.checkpoint.At(name));
  };
  FitRecords fits = RecordsOf(original, options);
  job.options = OptionsOfQuantize(model, options, fits.options);
  job.matrices = [&](Journal*) { return RecipeMatricesJson(fits.matrices); };
  job.shard_bytes = options.shard_bytes;
  job.written = model.tensors;
  job.config = ConfigWithoutFp8(
      PackedConfig(model.checkpoint.config(), model.mobe, packing.formats));
  job.stop = options.stop;
  job.new_card = QuantizedCard;
  QuantizeReport report;
  report.bytes_in = original.checkpoint.bytes();
  for (const TensorDecl& tensor : job.tensors) {
    report.bytes_out += tensor.bytes();
  }
  job.packed_parts = [&] { return writer.TakeParts(); };
  job.packed_all = [&](const std::vector<PackedPart>& parts) {
    report.parts = parts;
  };
  if (!WriteModel(original, out, job, watched)) return std::nullopt;
  return report;
}

}  // namespace mobe
