// Times a model as llama-bench does: prompts, generation, both together.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/progress.h"
#include "machine/peaks.h"
#include "model/expert_modes.h"
#include "speed/bench_case.h"

namespace mobe {

struct BenchResult {
  BenchCase test;
  int threads = 0;              // that ran
  std::string experts;          // "plain", "built", ... as ModesOf
  const char* dtype = "";       // of most products: as ProductPeak
  std::vector<double> seconds;  // of each round
  // Of a token on average. Bytes, weights and cache together, are those of
  // decoding: 0 for a case with a prompt.
  double token_bytes = 0;
  double token_operations = 0;  // ForwardOperations
  ExpertStatistics uses;        // of all rounds
  Peaks peaks;  // of these threads, measured before the first round

  double tokens() const {
    return static_cast<double>(test.text.tokens() * test.batch);
  }
  double rate() const;       // tokens a second: the mean over the rounds
  double deviation() const;  // of a round's; 0 when there is one round
  double bytes_per_second() const { return rate() * token_bytes; }
  double operations_per_second() const { return rate() * token_operations; }
  // Of the peaks; above 1 where the caches hold the weights.
  double share_of_reading() const;
  double share_of_products() const;
};

struct BenchOptions {
  BenchLists lists;
  std::vector<LoadOptions> loads;  // lists.loads of them
  int64_t repeat = 5;
};

// Every case once untimed, then all cases in turn, `repeat` times: what slows
// the machine for a while slows all alike. Sets the number of threads.
std::vector<BenchResult> RunBench(const std::filesystem::path& folder,
                                  const BenchOptions& options,
                                  const ProgressFn& progress);

// As --dtype has them.
const char* PrecisionName(Precision precision);

}  // namespace mobe
