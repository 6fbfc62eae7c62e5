#include "model/memory_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "model/cache_pool.h"
#include "model/cached_experts.h"
#include "model/expert_builder.h"
#include "model/expert_math.h"
#include "model/expert_store.h"

namespace mobe {
namespace {

constexpr int64_t kMost = int64_t{1} << 62;

// Of the program, beside what is counted: code that has not run yet, what
// oneDNN generates, and for each thread a stack, tiles and rounded inputs.
// Measured: 27 to 41 MB with two threads.
constexpr int64_t kProgramBytes = int64_t{40} << 20;
constexpr int64_t kThreadBytes = int64_t{6} << 20;

// Multiplications and additions that building is worth where nobody asks for
// it: some seconds of two cores. A layer of Qwen3-30B takes 0.6e12, and the
// whole minutes, in which fused experts have written a hundred tokens.
constexpr double kMostBuildOperations = 2e12;

constexpr int64_t kMostPassTokens = 1024;
constexpr int64_t kLeastPassTokens = 16;
// Where experts are read from the disk, so many tokens share what is read.
constexpr int64_t kMostStepTokens = 8192;

// What tokens that pass together need between the steps (expert_math.h,
// attention.h), as float32.
int64_t ScratchBytes(const ModelConfig& c, int64_t tokens) {
  const int64_t expert =
      2 * c.hidden_size + 2 * c.expert_size + 2 * c.expert_size;
  const int64_t heads = c.num_heads * (2 * c.head_dim + c.value_dim);
  const int64_t attention = (c.attention_gate ? 2 : 1) * heads +
                            2 * c.num_kv_heads * (c.head_dim + c.value_dim) +
                            2 * c.latent.kv_rank;
  const int64_t delta = 3 * c.delta.channels() + 3 * c.delta.values();
  const int64_t token = 4 * c.hidden_size + std::max(attention, delta) +
                        2 * c.num_experts + c.experts_per_token * expert +
                        3 * std::max(c.dense_size, c.shared_size);
  // A part of it is there in 16 or 8 bits, too.
  return tokens * token * 4 * 3 / 2;
}

int64_t MappedBytes(const Checkpoint& checkpoint,
                    const std::vector<Plane>& planes) {
  int64_t bytes = 0;
  for (const Plane& plane : planes) {
    if (checkpoint.Locate(plane.data())) {
      bytes += static_cast<int64_t>(plane.size());
    }
  }
  return bytes;
}

// What a layer's experts take, by what they run as.
struct LayerNeed {
  int64_t bases = 0;
  int64_t stored = 0;        // the experts, as they are stored
  int64_t built = 0;         // what is computed
  int64_t not_factored = 0;  // and what is not, beside it
};

struct TextNeed {
  int64_t cache = 0;
  int64_t states = 0;  // of delta nets
};

TextNeed TextNeedOf(const ModelConfig& config, const LoadOptions& options) {
  const CacheLayout cache(config, options.cache);
  const int64_t tokens = std::min(options.cache_tokens, config.max_positions);
  return {(tokens + kPageTokens - 1) / kPageTokens * cache.page_bytes,
          options.sequences * cache.state_bytes()};
}

int64_t ProgramBytes() { return kProgramBytes + Threads() * kThreadBytes; }

struct Needs {
  int64_t always = 0;  // attention, head, what runs for every token
  TextNeed text;
  int64_t program = 0;
  std::vector<LayerNeed> layers;
  LayerNeed all;
  double build_operations = 0;
  int64_t place = 0;     // of one expert that is read
  int64_t products = 0;  // of some tokens with all bases of a layer and kind
};

Needs NeedsOf(const OpenedModel& model, const Weights& weights,
              const LoadOptions& options) {
  const Checkpoint& checkpoint = model.checkpoint;
  Needs needs;
  std::vector<Plane> always = PlanesOf(weights.output);
  for (const LayerWeights& layer : weights.layers) {
    for (const WeightView* w : layer.attention.Matrices()) {
      for (const Plane& plane : PlanesOf(*w)) always.push_back(plane);
    }
    if (layer.dense) AddPlanes(*layer.dense, &always);
    LayerNeed& need = needs.layers.emplace_back();
    std::vector<Plane> experts;
    for (const MlpWeights& expert : layer.experts) {
      AddPlanes(expert, &experts);
    }
    need.stored = MappedBytes(checkpoint, experts);
    if (layer.factored) {
      std::vector<Plane> bases;
      AddPlanes(*layer.factored, &bases);
      need.bases = MappedBytes(checkpoint, bases);
      const int64_t count = std::ssize(layer.experts);
      need.built = count * BuiltExpertBytes(layer, options.built);
      for (const KindMembers& members : kKindMembers) {
        const WeightView& matrix = layer.experts.front().*members.matrix;
        const auto& groups = (*layer.factored).*members.shared;
        for (const SharedBases& shared : groups) {
          needs.products = std::max(needs.products,
                                    BasesProductBytes(*layer.factored, shared));
        }
        if (groups.empty()) {
          need.not_factored += count * matrix.bytes();
        } else {
          needs.build_operations +=
              2.0 * static_cast<double>(count) *
              static_cast<double>(matrix.rows) *
              static_cast<double>(matrix.cols) *
              static_cast<double>(groups.front().bases.cols);
        }
      }
    }
    needs.all.bases += need.bases;
    needs.all.stored += need.stored;
    needs.all.built += need.built;
    needs.all.not_factored += need.not_factored;
  }
  needs.always = MappedBytes(checkpoint, always);
  needs.text = TextNeedOf(model.config, options);
  needs.program = ProgramBytes();
  needs.place = ExpertStore::PlaceBytes(model, weights);
  return needs;
}

std::string Size(int64_t bytes) {
  return FormatBytes(static_cast<double>(bytes));
}

class Planner {
 public:
  Planner(const OpenedModel& model, const Weights& weights,
          const LoadOptions& options)
      : model_(model),
        options_(options),
        needs_(NeedsOf(model, weights, options)),
        is_factored_(needs_.all.built > 0) {
    plan_.modes.resize(weights.layers.size(), ExpertMode::kFused);
    plan_.cache_tokens = options.cache_tokens;
    plan_.sequences = options.sequences;
    FindLimit();
    plan_.evicts = plan_.is_hard;
    ChoosePassTokens();
    rest_ = RestBeside(plan_.pass_tokens);
  }

  MemoryPlan Plan() {
    switch (options_.experts) {
      case ExpertMode::kAuto:
        PlanAuto();
        break;
      case ExpertMode::kBuilt:
        Require("built experts need");
        if (is_factored_) Build();
        break;
      case ExpertMode::kFused:
        if (MustFit()) Require("the model needs");
        break;
      case ExpertMode::kCached:
        PlanCached();
        break;
      case ExpertMode::kStreamed:
        Require("streamed experts need");
        Stream();
        break;
    }
    AddLines();
    return std::move(plan_);
  }

 private:
  int64_t StoredBytes() const { return needs_.all.bases + needs_.all.stored; }
  // While a layer is built, its factors are there, too; then they are let go.
  int64_t BuiltBytes() const {
    if (!is_factored_) return StoredBytes();
    int64_t most = 0;
    for (const LayerNeed& layer : needs_.layers) {
      most = std::max(most, layer.bases + layer.stored);
    }
    return needs_.all.built + needs_.all.not_factored + most;
  }
  int64_t StreamedBytes() const {
    return needs_.all.bases + ExpertStore::kLeastPlaces * needs_.place;
  }

  // Else the kernel lets go what is mapped and reads it again: slow, but within
  // any limit that is not the user's own.
  bool MustFit() const {
    return plan_.is_hard || (options_.experts != ExpertMode::kAuto &&
                             options_.experts != ExpertMode::kFused);
  }
  // Of the ways that may be taken, the one that needs the least.
  int64_t LeastBytes() const {
    switch (options_.experts) {
      case ExpertMode::kBuilt:
        return BuiltBytes();
      case ExpertMode::kFused:
      case ExpertMode::kCached:
        return StoredBytes();
      case ExpertMode::kAuto:
      case ExpertMode::kStreamed:
        return StreamedBytes();
    }
    return 0;
  }
  int64_t PassBytes(int64_t tokens) const {
    return ScratchBytes(model_.config, tokens) + needs_.products;
  }
  // Of the room, what experts and bases get beside passes of so many tokens.
  int64_t RestBeside(int64_t pass_tokens) const {
    return room_ - needs_.always - needs_.text.cache - needs_.text.states -
           needs_.program - PassBytes(pass_tokens);
  }

  void FindLimit() {
    const MemoryBound bound = ReadLimits().Memory();
    const int64_t used = ResidentBytes().all;
    room_ = bound.bytes;
    plan_.whose = bound.whose;
    if (options_.memory > 0 && options_.memory - used < room_) {
      room_ = options_.memory - used;
      plan_.whose = "--memory";
    } else if (options_.memory == 0) {
      room_ = BytesToPlan(room_);
    }
    plan_.is_hard = options_.memory > 0;
    plan_.limit = room_ + used;
  }

  void ChoosePassTokens() {
    const bool must_fit =
        MustFit() || RestBeside(kLeastPassTokens) >= LeastBytes();
    int64_t tokens = kMostPassTokens;
    while (tokens > kLeastPassTokens &&
           (ScratchBytes(model_.config, tokens) > room_ / 8 ||
            (must_fit && RestBeside(tokens) < LeastBytes()))) {
      tokens /= 2;
    }
    plan_.pass_tokens = tokens;
    plan_.step_tokens = tokens;
  }

  // Passes have the fewest tokens where anything is missing, so that what the
  // message says is the least that does; it is rounded up, since what the
  // program has taken so far differs from run to run.
  void Require(const char* what) const {
    const int64_t bytes = LeastBytes();
    if (bytes <= rest_) return;
    const int64_t least = plan_.limit - rest_ + bytes;
    const int64_t step = least < 1'000'000'000 ? 1'000'000 : 10'000'000;
    Fail(ErrorKind::kOutOfMemory,
         "{}: {} at least {} of memory, the limit is {} ({}); {}",
         model_.checkpoint.folder().string(), what,
         Size((least / step + 2) * step), Size(plan_.limit), plan_.whose,
         options_.experts == ExpertMode::kStreamed ||
                 options_.experts == ExpertMode::kAuto
             ? "raise it, or quantise the model"
             : "raise it, or run with --experts auto");
  }

  void PlanAuto() {
    const bool builds =
        is_factored_ && needs_.build_operations <= kMostBuildOperations;
    if (builds && BuiltBytes() <= rest_) return Build();
    if (StoredBytes() <= rest_) {
      if (builds) BuildSome();
      return;
    }
    if (StreamedBytes() <= rest_) return Stream();
    if (MustFit()) Require("the model needs");
  }

  void Build() {
    for (size_t i = 0; i < plan_.modes.size(); ++i) {
      if (needs_.layers[i].built > 0) plan_.modes[i] = ExpertMode::kBuilt;
    }
  }

  // As many of the first layers as there is room for, beside the others'
  // factors.
  void BuildSome() {
    int64_t rest = rest_ - StoredBytes();
    for (size_t i = 0; i < plan_.modes.size(); ++i) {
      const LayerNeed& need = needs_.layers[i];
      if (need.built == 0) continue;
      if (need.built > rest) break;
      rest -= need.built + need.not_factored - need.bases - need.stored;
      plan_.modes[i] = ExpertMode::kBuilt;
    }
  }

  void PlanCached() {
    Require("cached experts need");
    if (!is_factored_) return;
    int64_t layers = 0;
    for (size_t i = 0; i < plan_.modes.size(); ++i) {
      if (needs_.layers[i].built == 0) continue;
      plan_.modes[i] = ExpertMode::kCached;
      ++layers;
    }
    plan_.expert_bytes = (rest_ - StoredBytes()) / layers;
  }

  void Stream() {
    plan_.evicts = true;
    for (size_t i = 0; i < plan_.modes.size(); ++i) {
      if (needs_.layers[i].stored > 0) plan_.modes[i] = ExpertMode::kStreamed;
    }
    ChooseStepTokens();
    plan_.expert_bytes = rest_ - needs_.all.bases;
  }

  // Of what is left beside the fewest experts, hidden states get an eighth; but
  // where a layer's experts don't fit, passes can't share them.
  void ChooseStepTokens() {
    const int64_t experts = model_.config.num_experts;
    if (rest_ - needs_.all.bases < experts * needs_.place) return;
    const int64_t passes =
        1 + (rest_ - StreamedBytes()) / 8 / StateBytes(plan_.pass_tokens);
    plan_.step_tokens =
        std::max(plan_.pass_tokens,
                 std::min(kMostStepTokens, passes * plan_.pass_tokens));
    rest_ -= StateBytes(plan_.step_tokens - plan_.pass_tokens);
  }
  int64_t StateBytes(int64_t tokens) const {
    return tokens * model_.config.hidden_size * int64_t{sizeof(float)};
  }

  void AddLines() {
    const auto add = [&](const std::string& what, int64_t bytes) {
      if (bytes <= 0) return;
      // Not a row that is moved in: there g++ 12 takes short texts for long.
      MemoryPlan::Line& line = plan_.lines.emplace_back();
      line.what = what;
      line.bytes = bytes;
    };
    add("attention, head and what runs for every token", needs_.always);
    LayerNeed fused;
    LayerNeed built;
    int64_t bases = 0;
    int64_t cached = 0;
    std::array<int64_t, 5> layers{};
    for (size_t i = 0; i < plan_.modes.size(); ++i) {
      const LayerNeed& need = needs_.layers[i];
      if (need.stored == 0 && need.built == 0) continue;
      ++layers[static_cast<size_t>(plan_.modes[i])];
      if (plan_.modes[i] == ExpertMode::kBuilt) {
        built.built += need.built + need.not_factored;
      } else {
        bases += need.bases;
        fused.stored += need.stored;
      }
      if (plan_.modes[i] == ExpertMode::kCached) {
        const int64_t all = model_.config.num_experts;
        const int64_t one = need.built / all;
        cached += one * CachedExperts::Places(plan_.expert_bytes, 1, one, all);
      }
    }
    const auto count = [&](ExpertMode mode) {
      return layers[static_cast<size_t>(mode)];
    };
    add("bases", bases);
    if (count(ExpertMode::kFused) > 0) {
      add(fmt::format("experts as stored, {} layers",
                      count(ExpertMode::kFused)),
          fused.stored);
    }
    if (count(ExpertMode::kCached) > 0) {
      add(fmt::format("experts as stored, {} layers",
                      count(ExpertMode::kCached)),
          fused.stored);
      add("the most used of them built", cached);
    }
    if (count(ExpertMode::kBuilt) > 0) {
      add(fmt::format("experts built, {} layers", count(ExpertMode::kBuilt)),
          built.built);
    }
    if (count(ExpertMode::kStreamed) > 0) {
      const int64_t all =
          count(ExpertMode::kStreamed) * model_.config.num_experts;
      const int64_t places =
          std::clamp(plan_.expert_bytes / std::max<int64_t>(needs_.place, 1),
                     ExpertStore::kLeastPlaces, all);
      add(fmt::format("experts streamed, {} of {} in memory", places, all),
          places * needs_.place);
    }
    add("keys and values", needs_.text.cache);
    add(plan_.sequences == 1
            ? "the state of a text"
            : fmt::format("the states of {} texts", plan_.sequences),
        needs_.text.states);
    add(fmt::format("passes of {} tokens", plan_.pass_tokens),
        PassBytes(plan_.pass_tokens));
    add(fmt::format("{} tokens between two layers", plan_.step_tokens),
        StateBytes(plan_.step_tokens - plan_.pass_tokens));
    add("the program", needs_.program + plan_.limit - room_);
  }

  const OpenedModel& model_;
  const LoadOptions& options_;
  const Needs needs_;
  const bool is_factored_;
  MemoryPlan plan_;
  int64_t room_ = kMost;  // bytes that may still be taken
  int64_t rest_ = 0;      // of it, for experts and bases
};

}  // namespace

int64_t BytesToPlan(int64_t available) { return available - available / 16; }

int64_t LeastBytesBesideWeights(const ModelConfig& config,
                                const LoadOptions& options) {
  const TextNeed text = TextNeedOf(config, options);
  return text.cache + text.states + ProgramBytes() +
         ScratchBytes(config, kLeastPassTokens);
}

MemoryPlan PlanMemory(const OpenedModel& model, const Weights& weights,
                      const LoadOptions& options) {
  return Planner(model, weights, options).Plan();
}

}  // namespace mobe
