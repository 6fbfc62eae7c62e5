// The compress job: layer after layer, read, fit, write. Memory is bounded by
// one layer, a killed job continues, and the bytes are the same either way.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "base/stop.h"
#include "compress/job_queue.h"
#include "compress/packing.h"
#include "compress/ranks.h"
#include "fit/budget.h"
#include "fit/device.h"
#include "fit/fit.h"
#include "io/checkpoint.h"
#include "io/side_files.h"
#include "mobe/open_model.h"
#include "mobe/sizes.h"

namespace mobe {

class Journal;

// "0/3": the first of three shares. Fails with kUserInput.
Share ParseShare(const std::string& text);
// An activation-aware job weighs errors by what matrices read when the model
// runs on a text. Running it is the caller's part (model/moments.h).
struct Calibration {
  int64_t tokens = 0;
  std::string hash;  // of the token ids and windows
  // Writes what the job reads of the text, the file of mobe/moments_file.h,
  // whole or not at all.
  std::function<void(const std::filesystem::path& file, const ProgressFn&)>
      collect;
  // Seconds that it will take, from one layer and a few tokens.
  std::function<double()> probe = {};
  int64_t bytes = 0;  // of the file
};

// Who chooses shapes for a ratio.
enum class Split {
  kEven,  // the same for every kind and layer that is factored
  kAuto,  // by what an error of each does to the predictions (split.h)
};
inline const char* SplitName(Split split) {
  return split == Split::kEven ? "even" : "auto";
}

struct CompressOptions {
  std::vector<const MatrixKind*> kinds = {&kGateKind, &kUpKind};
  std::optional<int64_t> num_bases;  // of all groups; one of these two
  double ratio = 0.75;               // of expert weights
  std::optional<int64_t> rank;       // of A; default: the expert size
  int64_t basis_rank = 0;            // of low-rank bases; 0: whole ones
  int64_t max_alphas = 0;  // bases that one expert may use; 0: all of them
  int64_t groups = 1;      // FactorShape::groups
  Split split = Split::kEven;
  Activation activation = Activation::kSilu;
  int64_t first_layer = 0;  // of the layers to factor, inclusive
  int64_t last_layer = INT64_MAX;
  uint64_t seed = 0;
  const Method* solver = &kFastSolver;
  std::vector<FitDevice*> devices = {&TheCpu()};  // all of one kind
  Budget budget{500, 0};
  // When a time budget began to run (MonotonicSeconds); 0: with Compress.
  double started = 0;
  int64_t shard_bytes = int64_t{5} * 1000 * 1000 * 1000;
  // What is taken over from an FP8 model stays FP8, rather than to become BF16.
  bool keep_fp8 = false;
  // Stores the result in few bits, too: the tensors and config.json are then
  // those that Quantize would make of it; with a calibration, of which
  // `collect` then must tell what all matrices read, of the model with the
  // result as its factored form.
  std::optional<PackRule> pack;
  // A safetensors file of starts for the reference solver, in the reference's
  // names (model_layers_{i}_mlp_{kind}_proj.A_params, B_params, w_params).
  std::filesystem::path start;
  // Fit this share of the jobs only: the output is then a part, a folder that
  // Merge makes a model of, together with the parts of the other shares.
  std::optional<Share> share;
  // The preset that some of the above are from, for messages; it has no
  // influence (presets.h).
  std::string preset;
  // The recipe as it was written, kept in a part so that a merge needn't repeat
  // it; it has no influence.
  std::vector<std::string> arguments;
  std::optional<Calibration> calibration;
  // Asked after each pass, at rank 0 and elsewhere: Compress, HelpCompress and
  // Merge then throw Stopped.
  StopFn stop;
};

// One matrix kind of one layer: what is fitted, and then stored, at a time.
struct FactorJob : FactorShape {
  // Bases, alpha, and A of each expert, as they will be stored: of one group
  // after another.
  std::vector<TensorDecl> tensors;
  FitShape fit;  // of each group

  DType dtype() const { return tensors.front().dtype; }
};

// What compress will do, known before it begins.
struct CompressPlan {
  // Whether matrices are rounded in the norm of what they read on the text.
  bool RoundsByText() const { return options.pack && options.calibration; }

  CompressOptions options;
  MobeFormat format;
  std::vector<FactorJob> jobs;  // of all shares, in the order of layers
  std::vector<Shard> shards;
  Packing packing;       // of the tensors in the shards; factors wait unpacked
  SideFiles side_files;  // of the model
  Ratios ratios;
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  // Working memory of the fits that run at a time, beside mapped pages; and of
  // one on its device, where that has its own.
  int64_t fit_bytes = 0;
  int64_t device_bytes = 0;
};

// Fails with kUserInput where options contradict each other or the model,
// whatever the shapes, and with kMissing for a side file that CheckSideFiles
// refuses; PlanCompression calls it.
void CheckOptions(const OpenedModel& model, const CompressOptions& options);
// The layers with experts that the options name. Fails with kUserInput when
// there is none.
std::vector<int64_t> LayersToFactor(const ModelConfig& config,
                                    const CompressOptions& options);
// What the options alone make of the model: the same shape for every kind and
// layer that they name. Fails with kUserInput when they don't fit the model.
std::vector<FactorShape> UniformShapes(const ModelConfig& config,
                                       const CompressOptions& options);

// A plan with these shapes, sorted as in MobeFormat, whoever chose them. Fails
// with kUserInput when options or shapes don't fit the model, or when it is
// factored already.
CompressPlan PlanCompression(const OpenedModel& model,
                             const CompressOptions& options,
                             std::vector<FactorShape> shapes);
// With UniformShapes.
CompressPlan PlanCompression(const OpenedModel& model,
                             const CompressOptions& options);

// How one matrix came out, of what is stored.
struct MatrixReport {
  int64_t layer = 0;
  std::string kind;
  FitError error;
};

struct CompressReport {
  std::vector<MatrixReport> matrices;
  double mse_scaled_mean = 0;
  int64_t resumed = 0;  // matrices that an earlier run had finished
  int64_t passes = 0;
  // The same command had done all of it before; there was nothing to do.
  bool already = false;
};

// Called after each pass of the fit. Those of expert groups follow one another.
using TraceFn = std::function<void(int64_t layer, const MatrixKind& kind,
                                   int64_t pass, double scaled_mse)>;

// `ranks`: the processes that share the work, of which this is rank 0; null
// when there are no others. Each rank needs the model and `out`, under the same
// names. The bytes are the same whatever their number. The trace is of the jobs
// of this process. Fails with kDiskFull when there is too little disk space for
// `out`, before any work. What an earlier run left damaged is made again, with
// a warning through `progress`.
CompressReport Compress(const OpenedModel& model, const CompressPlan& plan,
                        const std::filesystem::path& out,
                        const ProgressFn& progress, const TraceFn& trace,
                        Ranks* ranks = nullptr);
// What the other ranks do meanwhile, with the same plan: fits what rank 0 tells
// it to. Returns when rank 0 says so. For TellRank0 (crew.h).
void HelpCompress(const OpenedModel& model, const CompressPlan& plan,
                  const std::filesystem::path& out, Ranks* ranks);

// The model from the parts of all shares, as one Compress would have written
// it. `plan` has no share. The parts stay. Fails with kUserInput when they
// belong to another plan or model or to several instruction sets, and when a
// matrix is in none of them, naming its share. Can be stopped and repeated.
CompressReport Merge(const OpenedModel& model, const CompressPlan& plan,
                     const std::vector<std::filesystem::path>& parts,
                     const std::filesystem::path& out,
                     const ProgressFn& progress);

// Writes what the calibration finds to where the job in `out` keeps it, unless
// it is there and undamaged: before the first fit, or before shapes are chosen.
// The caller holds the lock of `out`. Throws Stopped.
void EnsureMoments(const Calibration& calibration,
                   const std::filesystem::path& out, const StopFn& stop,
                   const ProgressFn& progress);

namespace internal {

// What a job must be continued with.
Json OptionsJson(const CompressPlan& plan);
// What decides how sums are rounded on the options' devices; nothing for the
// CPU, where the kernels do.
std::string DeviceText(const CompressOptions& options);
// Jobs that run side by side in this process.
int64_t JobsAtATime(const CompressOptions& options);
// Operations of one pass of each job: what orders the queue, since all have the
// same passes.
std::vector<double> CostsOf(const CompressPlan& plan);
// Where an unfinished job keeps what it has read of its text.
std::filesystem::path MomentsPath(const std::filesystem::path& out);
// The tensors of the model that one of these jobs replaces.
std::vector<const TensorView*> InputsOf(const OpenedModel& model,
                                        const std::vector<FactorJob>& jobs);
// Reads the tensors. Fails where a weight is not finite; gives the warning of
// mobe/zeros.h, or nothing.
std::string CheckWeights(const OpenedModel& model,
                         const std::vector<const TensorView*>& tensors);
// The same for a job, once: continued, it gives the warning again.
std::string CheckWeightsOnce(const OpenedModel& model,
                             const std::vector<const TensorView*>& tensors,
                             Journal* journal);
// From the records of all jobs of the plan that `records` has (others null).
CompressReport ReportOf(const CompressPlan& plan,
                        const std::vector<Json>& records);
// Of a job that was finished before, from its recipe.
CompressReport ReportOfRecipe(const std::filesystem::path& out);
// What a journal says goes to the user.
std::function<void(const std::string&)> WarnThrough(const ProgressFn& progress);

}  // namespace internal

}  // namespace mobe
