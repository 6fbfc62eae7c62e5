#include "speed/bench.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/parallel.h"
#include "mobe/open_model.h"
#include "speed/bench_model.h"
#include "speed/forward_operations.h"

namespace mobe {
namespace {

constexpr double kPeakSeconds = 0.5;

// The longest sequence of any case.
int64_t ContextOf(const std::vector<BenchCase>& cases) {
  int64_t context = 0;
  for (const BenchCase& test : cases) {
    context = std::max(context, test.depth + test.text.tokens());
  }
  return context;
}

double MeanTokenBytes(const BenchModel& model, const BenchCase& test) {
  // Of a batch it depends on how many experts the sequences share.
  if (test.text.prompt > 0 || test.batch > 1) return 0;
  const double before = static_cast<double>(test.depth) +
                        static_cast<double>(test.text.generate + 1) / 2;
  return static_cast<double>(model.WeightBytes()) +
         static_cast<double>(model.CacheBytes()) * before;
}

double MeanTokenOperations(const ModelConfig& config, const BenchCase& test) {
  const BenchText& text = test.text;
  double operations = 0;
  if (text.prompt > 0) {
    operations += ForwardOperations(config, text.prompt, test.depth, 1);
  }
  operations += ForwardOperations(config, text.generate,
                                  test.depth + text.prompt, text.generate);
  return operations / static_cast<double>(text.tokens());
}

// Runs what a case will run, once, in a short form: the prompt, and a token of
// text.
void WarmUp(BenchModel* model, BenchCase test) {
  test.text.generate = std::min<int64_t>(test.text.generate, 1);
  test.batch = 1;
  model->Run(test);
}

}  // namespace

const char* PrecisionName(Precision precision) {
  switch (precision) {
    case Precision::kFloat32:
      return "float32";
    case Precision::kBFloat16:
      return "bfloat16";
  }
  Fail(ErrorKind::kInternal, "precision {} has no name",
       static_cast<int>(precision));
}

double BenchResult::rate() const {
  double sum = 0;
  for (const double s : seconds) sum += tokens() / s;
  return sum / static_cast<double>(seconds.size());
}

double BenchResult::deviation() const {
  if (seconds.size() < 2) return 0;
  const double mean = rate();
  double squares = 0;
  for (const double s : seconds) {
    squares += (tokens() / s - mean) * (tokens() / s - mean);
  }
  return std::sqrt(squares / static_cast<double>(seconds.size() - 1));
}

double BenchResult::share_of_reading() const {
  return bytes_per_second() / peaks.bytes_per_second;
}

double BenchResult::share_of_products() const {
  return operations_per_second() / peaks.Product(dtype);
}

std::vector<BenchResult> RunBench(const std::filesystem::path& folder,
                                  const BenchOptions& options,
                                  const ProgressFn& progress) {
  const std::vector<BenchCase> cases = ListCases(options.lists);
  const int64_t batch = std::ranges::max(options.lists.batches);
  const int64_t depth = std::ranges::max(options.lists.depths);
  std::vector<BenchModel> models;
  for (const LoadOptions& load : options.loads) {
    progress({0, "loading"});
    models.emplace_back(folder, load, ContextOf(cases), batch);
    models.back().TouchWeights();
    models.back().Fill(depth);
  }

  std::map<int, Peaks> peaks;
  std::vector<BenchResult> results;
  const double runs =
      static_cast<double>(cases.size()) * static_cast<double>(options.repeat);
  for (int64_t round = -1; round < options.repeat; ++round) {
    for (size_t i = 0; i < cases.size(); ++i) {
      const BenchCase& test = cases[i];
      BenchModel& model = models[test.load];
      SetThreads(test.threads);
      // New threads have no products of oneDNN compiled yet.
      if (round < 0 || options.lists.threads.size() > 1) WarmUp(&model, test);
      if (round < 0) {
        if (!peaks.contains(test.threads)) {
          peaks[test.threads] = MeasurePeaks(kPeakSeconds);
        }
        results.push_back(
            {test,
             Threads(),
             model.Experts(),
             model.RunsInIntegers() ? "int8" : PrecisionName(model.precision()),
             {},
             MeanTokenBytes(model, test),
             MeanTokenOperations(model.config(), test),
             {},
             peaks[test.threads]});
        continue;
      }
      const double done =
          static_cast<double>(round) * static_cast<double>(cases.size()) +
          static_cast<double>(i);
      progress({done / runs,
                fmt::format("round {} {}", round + 1, test.text.Name())});
      const ExpertStatistics before = model.Statistics();
      results[i].seconds.push_back(model.Run(test));
      const ExpertStatistics uses = model.Statistics() - before;
      results[i].uses.found += uses.found;
      results[i].uses.missed += uses.missed;
    }
  }
  return results;
}

}  // namespace mobe
