#include <charconv>
#include <unordered_set>

#include "base/error.h"
#include "base/parallel.h"
#include "mobe/compress.h"

namespace mobe {
namespace {

std::vector<int64_t> LayersToFactor(const ModelConfig& config,
                                    const CompressOptions& options) {
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (config.IsMoeLayer(layer) && layer >= options.first_layer &&
        layer <= options.last_layer) {
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

// F8 and the like are written as bf16; anything else keeps its dtype.
DType StoredDType(const OpenedModel& model, const TensorSpec& spec) {
  for (const MatrixKind& kind : kMatrixKinds) {
    const bool factor = spec.role == kind.bases || spec.role == kind.alpha ||
                        spec.role == kind.expert;
    if (!factor) continue;
    const DType dtype = model.At(kind.expert, spec.layer, 0).dtype;
    return DTypeSize(dtype) < 2 ? DType::kBF16 : dtype;
  }
  return model.checkpoint.At(spec.name).dtype;
}

// The specs of each job's tensors follow one another; bases come first.
std::vector<FactorJob> ListJobs(const OpenedModel& model,
                                const std::vector<TensorSpec>& specs,
                                const MobeFormat& format) {
  std::vector<FactorJob> jobs;
  for (const int64_t layer : format.layers) {
    for (const MatrixKind& kind : kMatrixKinds) {
      const ModelConfig& config = model.config;
      const double cost = static_cast<double>(config.num_experts) *
                          static_cast<double>(config.expert_size) *
                          static_cast<double>(config.hidden_size) *
                          static_cast<double>(format.rank);
      jobs.push_back({layer, &kind, {}, cost});
    }
  }
  for (const TensorSpec& spec : specs) {
    for (FactorJob& job : jobs) {
      const bool factor = spec.role == job.kind->bases ||
                          spec.role == job.kind->alpha ||
                          spec.role == job.kind->expert;
      if (!factor || spec.layer != job.layer) continue;
      job.tensors.push_back({spec.name, StoredDType(model, spec), spec.shape});
    }
  }
  return jobs;
}

}  // namespace

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

CompressPlan PlanCompression(const OpenedModel& model,
                             const CompressOptions& options) {
  if (model.mobe) {
    Fail(ErrorKind::kUserInput,
         "{}: already factored ({} bases); compress the original model",
         model.checkpoint.folder().string(), model.mobe->num_bases);
  }
  if (!options.start.empty() && options.solver != Solver::kReference) {
    Fail(ErrorKind::kUserInput,
         "--start goes with --solver reference: it gives A, which the fast "
         "solver computes");
  }
  if (options.share && options.budget.seconds > 0) {
    Fail(ErrorKind::kUserInput,
         "a share needs a budget of passes: a time would come to other passes "
         "in each");
  }
  const ModelConfig& config = model.config;
  CompressPlan plan;
  plan.options = options;
  plan.format.rank = config.expert_size;
  plan.format.activation = options.activation;
  plan.format.layers = LayersToFactor(config, options);
  plan.format.num_bases =
      options.num_bases
          ? *options.num_bases
          : BasesForRatio(config, options.ratio, plan.format.rank);
  if (plan.format.num_bases < 1 || plan.format.num_bases > config.num_experts) {
    Fail(ErrorKind::kUserInput,
         "{} bases: expected 1 to the number of experts ({})",
         plan.format.num_bases, config.num_experts);
  }
  if (plan.format.rank > config.hidden_size) {
    Fail(ErrorKind::kUnsupported,
         "{}: experts are wider ({}) than the model ({}): the factored form "
         "would be larger than the original",
         model.checkpoint.config_path(), config.expert_size,
         config.hidden_size);
  }

  std::vector<TensorDecl> tensors;
  std::unordered_set<std::string> listed;
  const auto specs = ListTensors(*model.family, config, plan.format);
  plan.jobs = ListJobs(model, specs, plan.format);
  for (const TensorSpec& spec : specs) {
    tensors.push_back({spec.name, StoredDType(model, spec), spec.shape});
    listed.insert(spec.name);
  }
  // What the table does not know is copied as it is.
  for (const TensorView* tensor : model.checkpoint.tensors()) {
    if (!listed.contains(tensor->name)) tensors.push_back(*tensor);
  }
  for (const TensorDecl& tensor : tensors) plan.bytes_out += tensor.bytes();
  plan.bytes_in = model.checkpoint.bytes();
  plan.shards = PlanShards(tensors, options.shard_bytes);
  plan.ratios = RatiosOf(CountParts(specs), CountParts(model.tensors));

  const int64_t matrix = config.expert_size * config.hidden_size;
  // Target and mix for every expert; bases, their gradient and Adam's moments;
  // scratch of each thread.
  plan.fit_bytes = 4 * matrix *
                   (2 * config.num_experts + 4 * plan.format.num_bases +
                    int64_t{3} * Threads());
  return plan;
}

}  // namespace mobe
