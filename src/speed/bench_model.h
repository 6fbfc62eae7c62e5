// A model to be timed. The one file of this folder that knows how a model is
// run: by Model and KvCache.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"
#include "speed/bench_case.h"

namespace mobe {

class BenchModel {
 public:
  // For up to `batch` sequences of up to `context` tokens. Fails as Model::Load
  // and KvCache. Needs no tokenizer: token ids are random, the same each time.
  BenchModel(const std::filesystem::path& folder, const LoadOptions& options,
             int64_t context, int64_t batch);

  const ModelConfig& config() const { return model_.config(); }
  ExpertStatistics Statistics() const { return StatisticsOf(model_.experts()); }
  Precision precision() const { return model_.precision(); }
  // Whether products are of integers: asked of the last layer's gate, as it
  // runs.
  bool RunsInIntegers() const;
  // How experts run, as ModesOf has it.
  std::string Experts() const { return ModesOf(model_.experts()); }
  // Bytes that a token of one sequence reads: of weights, and for each token
  // before it of the cache.
  int64_t WeightBytes() const;
  int64_t CacheBytes() const;

  // Reads every weight once, so that none comes from the disk later.
  void TouchWeights() const;
  // Fills the caches with `depth` tokens, to begin cases behind them.
  void Fill(int64_t depth);
  // Runs the case, the sequences of a batch together, and gives its seconds.
  double Run(const BenchCase& test);

 private:
  std::span<const int32_t> Ids(size_t sequence, int64_t place,
                               int64_t count) const;

  Model model_;
  std::optional<NumberFormat> built_;  // as of LoadOptions
  std::vector<KvCache> filled_;        // of each sequence of a batch
  // [sequences, context]: texts of their own, or all would pick the same
  // experts, and share what is read of them.
  std::vector<int32_t> ids_;
  std::vector<float> logits_;  // [vocab]
};

}  // namespace mobe
