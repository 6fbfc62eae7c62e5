#include <algorithm>
#include <charconv>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/parallel.h"
#include "compress/compress.h"
#include "compress/weighed_rounding.h"
#include "fit/device.h"
#include "fit/method.h"
#include "fit/refit.h"
#include "mobe/copy_tensors.h"
#include "mobe/tensors.h"

namespace mobe {
namespace {

FitShape FitShapeOf(const ModelConfig& config, const CompressOptions& options,
                    const FactorShape& shape) {
  FitShape fit{config.num_experts / shape.groups,
               config.expert_size,
               config.hidden_size,
               shape.rank,
               shape.num_bases / shape.groups,
               shape.basis_rank};
  // Down, on its transpose, is fitted without the text (moments_file.h).
  if (options.calibration && !shape.kind->transposed) {
    fit.pairs = options.calibration->tokens * config.experts_per_token /
                shape.groups;  // if experts are chosen alike
  }
  return fit;
}

// The specs of each job's tensors follow one another; bases come first.
std::vector<FactorJob> ListJobs(const OpenedModel& model,
                                const std::vector<TensorSpec>& specs,
                                const CompressOptions& options,
                                const MobeFormat& format) {
  std::vector<FactorJob> jobs;
  for (const FactorShape& shape : format.factors) {
    jobs.push_back({shape, {}, FitShapeOf(model.config, options, shape)});
    FactorJob& job = jobs.back();
    const DType dtype = FactorDType(model, job.layer, *job.kind);
    for (const TensorSpec& spec : specs) {
      if (spec.layer != job.layer || !job.kind->Has(spec.role)) continue;
      job.tensors.push_back({spec.name, dtype, spec.shape});
    }
  }
  return jobs;
}

void CheckKeepsFp8(const Checkpoint& checkpoint) {
  const auto scheme =
      ReadQuantScheme({checkpoint.config(), checkpoint.config_path()});
  if (!scheme || scheme->is_fp8_method) return;
  Fail(ErrorKind::kUserInput,
       "{}: --keep-fp8 writes \"quant_method\" \"fp8\", and this model has "
       "another: leave it out, and what is copied becomes BF16",
       checkpoint.config_path());
}

}  // namespace

void CheckOptions(const OpenedModel& model, const CompressOptions& options) {
  CheckSideFiles(ListSideFiles(model.checkpoint.folder()));
  if (model.mobe) {
    Fail(ErrorKind::kUserInput,
         "{}: already factored ({}); compress the original model",
         model.checkpoint.folder().string(), SummarizeFormat(*model.mobe));
  }
  if (!options.start.empty() && !options.solver->takes_start) {
    Fail(ErrorKind::kUserInput,
         "--start goes with --solver reference: it gives A, which the fast "
         "solver computes");
  }
  if (options.pack || options.split == Split::kAuto) {
    CheckRuns(*model.family, model.checkpoint.folder().string());
  }
  if (options.pack && options.keep_fp8) {
    Fail(ErrorKind::kUserInput,
         "--keep-fp8 keeps what --format would store anew: leave out one");
  }
  if (options.keep_fp8) CheckKeepsFp8(model.checkpoint);
  if (options.share && options.budget.seconds > 0) {
    Fail(ErrorKind::kUserInput,
         "a share needs a budget of passes: a time would come to other passes "
         "in each");
  }
  if (options.calibration && !options.solver->calibrates) {
    Fail(ErrorKind::kUserInput,
         "--calibrate goes with --solver fast: the published algorithm uses no "
         "text");
  }
  if (options.calibration && !options.pack &&
      std::ranges::all_of(options.kinds, &MatrixKind::transposed)) {
    Fail(ErrorKind::kUserInput,
         "--calibrate is of no use for --kinds down without --format: the text "
         "weighs what gate and up read");
  }
  if (options.split == Split::kAuto && !options.solver->splits) {
    Fail(ErrorKind::kUserInput,
         "--split auto goes with --solver fast: it chooses by that solver's "
         "errors");
  }
  const FitDevice& device = *options.devices.front();
  if (!options.solver->has_devices && &device != &TheCpu()) {
    Fail(ErrorKind::kUserInput,
         "--device {} goes with --solver fast: the published algorithm runs on "
         "the CPU",
         device.name());
  }
  if (options.split == Split::kAuto && options.groups != 1) {
    Fail(ErrorKind::kUserInput,
         "--split auto chooses among bases that all experts share: leave out "
         "--groups, or the split");
  }
}

namespace {

void CheckRanks(const ModelConfig& config, const FactorShape& shape) {
  const int64_t widest = std::min(config.expert_size, config.hidden_size);
  if (shape.rank < 1 || shape.rank > widest) {
    Fail(ErrorKind::kUserInput,
         "rank {}: expected 1 to the expert size or hidden size ({})",
         shape.rank, widest);
  }
  if (shape.basis_rank < 0 || shape.basis_rank > shape.rank) {
    Fail(ErrorKind::kUserInput,
         "bases of rank {}: expected 1 to the rank of A ({})", shape.basis_rank,
         shape.rank);
  }
}

void CheckGroups(const ModelConfig& config, int64_t groups) {
  if (groups >= 1 && config.num_experts % groups == 0) return;
  Fail(ErrorKind::kUserInput,
       "{} expert groups: expected a divisor of the number of experts ({})",
       groups, config.num_experts);
}

void CheckShape(const ModelConfig& config, const CompressOptions& options,
                const FactorShape& shape) {
  CheckRanks(config, shape);
  if (!config.IsMoeLayer(shape.layer) || shape.layer >= config.num_layers) {
    Fail(ErrorKind::kUserInput, "layer {} has no experts to factor",
         shape.layer);
  }
  if (shape.num_bases < 1 || shape.num_bases > config.num_experts) {
    Fail(ErrorKind::kUserInput,
         "{} bases: expected 1 to the number of experts ({})", shape.num_bases,
         config.num_experts);
  }
  CheckGroups(config, shape.groups);
  if (shape.num_bases % shape.groups != 0) {
    Fail(ErrorKind::kUserInput,
         "{} bases: expected a multiple of the number of expert groups ({}{})",
         shape.num_bases, shape.groups,
         options.preset.empty() ? "" : "; preset " + options.preset);
  }
  const int64_t in_group = shape.num_bases / shape.groups;
  if (options.max_alphas < 0 || options.max_alphas > in_group) {
    Fail(ErrorKind::kUserInput,
         "{} bases for an expert: expected 1 to the number of bases{} ({})",
         options.max_alphas, shape.groups == 1 ? "" : " of its group",
         in_group);
  }
}

}  // namespace

std::vector<int64_t> LayersToFactor(const ModelConfig& config,
                                    const CompressOptions& options) {
  std::vector<int64_t> layers;
  for (const int64_t layer : config.MoeLayers()) {
    if (layer >= options.first_layer && layer <= options.last_layer) {
      layers.push_back(layer);
    }
  }
  if (layers.empty()) {
    Fail(ErrorKind::kUserInput,
         "no layer to factor: the model has layers 0 to {}, and none of those "
         "asked for has experts",
         config.num_layers - 1);
  }
  return layers;
}

Share ParseShare(const std::string& text) {
  Share share;
  const char* end = text.data() + text.size();
  auto [slash, error] = std::from_chars(text.data(), end, share.index);
  bool valid = error == std::errc() && slash != end && *slash == '/';
  if (valid) {
    const auto [rest, also] = std::from_chars(slash + 1, end, share.count);
    valid = also == std::errc() && rest == end;
  }
  if (!valid || share.index < 0 || share.index >= share.count) {
    Fail(ErrorKind::kUserInput,
         "--shard {}: expected i/N with i from 0 to N - 1 (0/3, 1/3, 2/3)",
         text);
  }
  return share;
}

std::vector<FactorShape> UniformShapes(const ModelConfig& config,
                                       const CompressOptions& options) {
  if (!options.rank && config.expert_size > config.hidden_size) {
    Fail(ErrorKind::kUnsupported,
         "experts are wider ({}) than the model ({}): the factored form would "
         "be larger than the original; choose a smaller --rank",
         config.expert_size, config.hidden_size);
  }
  FactorShape shape;
  shape.rank = options.rank.value_or(config.expert_size);
  shape.basis_rank = options.basis_rank;
  shape.groups = options.groups;
  CheckRanks(config, shape);
  CheckGroups(config, shape.groups);
  shape.num_bases =
      options.num_bases
          ? *options.num_bases
          : BasesForRatio(config, options.ratio,
                          static_cast<int64_t>(options.kinds.size()), shape);
  std::vector<FactorShape> shapes;
  for (const int64_t layer : LayersToFactor(config, options)) {
    for (const MatrixKind& kind : kMatrixKinds) {
      if (std::ranges::count(options.kinds, &kind) == 0) continue;
      shapes.push_back(shape);
      shapes.back().layer = layer;
      shapes.back().kind = &kind;
    }
  }
  return shapes;
}

namespace {

CompressPlan MakePlan(const OpenedModel& model, const CompressOptions& options,
                      std::vector<FactorShape> shapes) {
  if (shapes.empty()) Fail(ErrorKind::kUserInput, "no matrix to factor");
  const ModelConfig& config = model.config;
  CompressPlan plan;
  plan.options = options;
  plan.format.activation = options.activation;
  plan.format.factors = std::move(shapes);
  for (const FactorShape& shape : plan.format.factors) {
    CheckShape(config, options, shape);
  }

  std::vector<TensorDecl> tensors;
  std::unordered_set<std::string> listed;
  const auto specs = ListTensors(*model.family, config, plan.format);
  plan.jobs = ListJobs(model, specs, options, plan.format);
  std::unordered_map<std::string_view, const TensorDecl*> factors;
  for (const FactorJob& job : plan.jobs) {
    for (const TensorDecl& factor : job.tensors) factors[factor.name] = &factor;
  }
  for (const TensorSpec& spec : ExpertByExpert(specs)) {
    const auto factor = factors.find(spec.name);
    if (factor != factors.end()) {
      tensors.push_back(*factor->second);
    } else {
      AddCopy(model.checkpoint.At(spec.name), options.keep_fp8, &tensors);
    }
    listed.insert(spec.name);
  }
  // What the table does not know is taken over, too.
  AddOtherCopies(model.checkpoint, listed, options.keep_fp8, &tensors);
  if (options.pack) {
    plan.packing = PackTensors(
        specs,
        [&](const TensorSpec& spec) { return FormatFor(spec, *options.pack); },
        &tensors);
    if (plan.packing.planes.empty()) {
      Fail(ErrorKind::kUserInput,
           "{}: has no matrix to quantise in the parts that were asked for",
           model.checkpoint.folder().string());
    }
  }
  for (const TensorDecl& tensor : tensors) plan.bytes_out += tensor.bytes();
  plan.bytes_in = model.checkpoint.bytes();
  plan.shards = PlanShards(tensors, options.shard_bytes);
  plan.side_files = ListSideFiles(model.checkpoint.folder());
  plan.ratios =
      RatiosOf(CountParts(model, specs), CountParts(model, model.tensors));
  for (const FactorJob& job : plan.jobs) {
    const FitMemory memory =
        options.solver->memory(job.fit, *options.devices.front());
    plan.fit_bytes =
        std::max(plan.fit_bytes, memory.host * internal::JobsAtATime(options));
    if (plan.RoundsByText() && options.pack->refit_passes > 0) {
      plan.fit_bytes = std::max(plan.fit_bytes, RefitBytes(job.fit));
    }
    plan.device_bytes = std::max(plan.device_bytes, memory.device);
  }
  if (options.calibration) {  // the inputs of one layer, in bfloat16
    plan.fit_bytes += 2 * options.calibration->tokens * config.hidden_size;
  }
  return plan;
}

}  // namespace

CompressPlan PlanCompression(const OpenedModel& model,
                             const CompressOptions& options) {
  CheckOptions(model, options);
  return MakePlan(model, options, UniformShapes(model.config, options));
}

CompressPlan PlanCompression(const OpenedModel& model,
                             const CompressOptions& options,
                             std::vector<FactorShape> shapes) {
  CheckOptions(model, options);
  return MakePlan(model, options, std::move(shapes));
}

}  // namespace mobe
