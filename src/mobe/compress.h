// The compress job: layer after layer, read, fit, write. Memory is bounded by
// one layer, a killed job continues, and the bytes are the same either way.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "io/checkpoint.h"
#include "mobe/fit.h"
#include "mobe/open_model.h"
#include "mobe/sizes.h"

namespace mobe {

// How long to fit: passes of each matrix, or seconds for the whole job, which
// become passes after the first matrix's speed was measured.
struct Budget {
  int64_t passes = 0;
  double seconds = 0;  // 0: passes hold
};
// "500", "90s", "10m", "2h". Fails with kUserInput.
Budget ParseBudget(const std::string& text);

struct CompressOptions {
  std::optional<int64_t> num_bases;  // one of these two
  double ratio = 0.75;               // of expert weights
  Activation activation = Activation::kSilu;
  int64_t first_layer = 0;  // of the layers to factor, inclusive
  int64_t last_layer = INT64_MAX;
  uint64_t seed = 0;
  Solver solver = Solver::kFast;
  Budget budget{500, 0};
  int64_t shard_bytes = int64_t{5} * 1000 * 1000 * 1000;
  // A safetensors file of starts for the reference solver, in the reference's
  // names (model_layers_{i}_mlp_{kind}_proj.A_params, B_params, w_params).
  std::filesystem::path start;
};

// One matrix kind of one layer: what is fitted, and then stored, at a time.
struct FactorJob {
  int64_t layer = 0;
  const MatrixKind* kind = nullptr;
  // Bases, alpha, and A of each expert, as they will be stored.
  std::vector<TensorDecl> tensors;

  DType dtype() const { return tensors.front().dtype; }
};

// What compress will do, known before it begins.
struct CompressPlan {
  CompressOptions options;
  MobeFormat format;
  std::vector<FactorJob> jobs;  // in the order of layers
  std::vector<Shard> shards;
  Ratios ratios;
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  // Working memory of the fit of one matrix kind, beside mapped pages.
  int64_t fit_bytes = 0;
};

// Fails with kUserInput when the options don't fit the model, or when it is
// factored already.
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
};

// Called after each pass of the fit.
using TraceFn = std::function<void(int64_t layer, const MatrixKind& kind,
                                   int64_t pass, double scaled_mse)>;

CompressReport Compress(const OpenedModel& model, const CompressPlan& plan,
                        const std::filesystem::path& out,
                        const ProgressFn& progress, const TraceFn& trace);

}  // namespace mobe
