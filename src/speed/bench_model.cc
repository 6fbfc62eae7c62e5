#include "speed/bench_model.h"

#include <atomic>
#include <random>
#include <span>

#include "base/parallel.h"
#include "base/progress.h"
#include "kernels/linear.h"

namespace mobe {
namespace {

// What is read of the checkpoint's files and stays, or was built; vectors were
// read at load.
std::vector<Plane> ListMatrices(const Model& model) {
  const Weights& weights = model.weights();
  std::vector<Plane> all;
  const auto add = [&all](const WeightView& w) {
    for (const Plane& plane : PlanesOf(w)) all.push_back(plane);
  };
  add(weights.embedding);
  add(weights.output);
  for (const LayerWeights& layer : weights.layers) {
    for (const WeightView* w : layer.attention.Matrices()) add(*w);
    if (layer.dense) AddPlanes(*layer.dense, &all);
  }
  for (const auto& experts : model.experts().layers) {
    if (experts == nullptr) continue;
    for (const Plane& plane : experts->Matrices()) all.push_back(plane);
  }
  return all;
}

std::vector<int32_t> RandomIds(int64_t count, int64_t vocab) {
  std::mt19937_64 random(1);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) {
    // Not uniform_int_distribution: its numbers are the library's own affair.
    id = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
  }
  return ids;
}

// Of contexts of so many tokens, of which each is kept and goes on in a copy.
LoadOptions WithCache(LoadOptions options, int64_t context, int64_t batch) {
  options.cache_tokens = context * batch;
  options.sequences = 2 * batch;
  return options;
}

}  // namespace

BenchModel::BenchModel(const std::filesystem::path& folder,
                       const LoadOptions& options, int64_t context,
                       int64_t batch)
    : model_(Model::Load(folder, WithCache(options, context, batch))),
      built_(options.built),
      ids_(RandomIds(batch * context, config().vocab_size)),
      logits_(static_cast<size_t>(config().vocab_size)) {
  for (int64_t i = 0; i < batch; ++i) {
    filled_.push_back(model_.NewCache(context));
  }
}

int64_t BenchModel::WeightBytes() const { return model_.DecodeBytes(); }

int64_t BenchModel::CacheBytes() const {
  return filled_.front().layout().page_bytes / kPageTokens;
}

void BenchModel::TouchWeights() const {
  constexpr int64_t kGrain = int64_t{4} << 20;
  std::atomic<unsigned> kept{0};  // or the compiler would read nothing
  for (const Plane& bytes : ListMatrices(model_)) {
    ParallelRanges(static_cast<int64_t>(bytes.size()), kGrain,
                   [&](int64_t begin, int64_t end) {
                     constexpr int64_t kLine = 64;  // of a cache
                     unsigned sum = 0;
                     for (int64_t i = begin; i < end; i += kLine) {
                       sum +=
                           static_cast<unsigned>(bytes[static_cast<size_t>(i)]);
                     }
                     kept.fetch_add(sum, std::memory_order_relaxed);
                   });
  }
}

bool BenchModel::RunsInIntegers() const {
  const LayerWeights& last = model_.weights().layers.back();
  if (last.experts.empty()) return last.dense->gate.packed();
  const bool is_built = last.factored && !last.factored->gate.empty() &&
                        model_.plan().modes.back() == ExpertMode::kBuilt;
  return is_built && built_ ? RowOf(*built_).packed()
                            : last.experts.front().gate.packed();
}

std::span<const int32_t> BenchModel::Ids(size_t sequence, int64_t place,
                                         int64_t count) const {
  const int64_t first =
      static_cast<int64_t>(sequence) * filled_.front().context() + place;
  return std::span(ids_).subspan(static_cast<size_t>(first),
                                 static_cast<size_t>(count));
}

void BenchModel::Fill(int64_t depth) {
  if (depth == 0) return;
  for (size_t i = 0; i < filled_.size(); ++i) {
    filled_[i].Truncate(0);
    model_.Forward(Ids(i, 0, depth), &filled_[i], LogitsFor::kLast,
                   logits_.data());
  }
}

double BenchModel::Run(const BenchCase& test) {
  std::vector<KvCache> caches;
  for (int64_t i = 0; i < test.batch; ++i) {
    caches.push_back(filled_[static_cast<size_t>(i)].Fork(test.depth));
  }
  std::vector<float> logits(
      static_cast<size_t>(test.batch * config().vocab_size));
  std::vector<BatchPart> batch;
  const auto step = [&](Phase phase, int64_t place, int64_t count) {
    batch.clear();
    for (size_t i = 0; i < caches.size(); ++i) {
      batch.push_back(
          {Ids(i, place, count), &caches[i], LogitsFor::kLast, phase});
    }
    model_.Forward(batch, logits.data());
  };
  const double start = MonotonicSeconds();
  int64_t place = test.depth;
  if (test.text.prompt > 0) step(Phase::kPrefill, place, test.text.prompt);
  place += test.text.prompt;
  for (int64_t i = 0; i < test.text.generate; ++i) {
    step(Phase::kDecode, place + i, 1);
  }
  return MonotonicSeconds() - start;
}

}  // namespace mobe
