#include "kernels/packed_mix.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "kernels/dot.h"
#include "kernels/packed_mix_internal.h"

namespace mobe {
namespace {

// Those of the sets of dot.h, which knows what this CPU can run: best first.
std::vector<PackedMixSet> ListPackedMixes() {
  constexpr const PackedMixSet* kAll[] = {
#if defined(__x86_64__)
    &kAvx512VnniPackedMix,
    &kAvx2PackedMix,
#elif defined(__aarch64__)
    &kNeonI8mmPackedMix,
    &kNeonDotPackedMix,
#endif
    &kScalarPackedMix
  };
  std::vector<PackedMixSet> sets;
  for (const PackedMixSet* set : kAll) {
    const bool runs =
        std::ranges::any_of(SupportedDots(), [&](const DotKernels& dots) {
          return std::string_view(dots.mix) == set->name;
        });
    if (runs) sets.push_back(*set);
  }
  return sets;
}

// Alphas that a set rounds at a time.
constexpr int64_t kAlphaStep = 16;

int64_t PaddedBases(const PackedBases& bases) {
  return (bases.num_bases + kAlphaStep - 1) / kAlphaStep * kAlphaStep;
}

// One expert's alphas, with zeros up to a whole step, and the quads of bases
// that they use.
class MixAlphas {
 public:
  void Set(const PackedBases& bases, const float* alpha) {
    alpha_.Resize(PaddedBases(bases));
    std::fill(std::copy_n(alpha, bases.num_bases, alpha_.begin()), alpha_.end(),
              0.0f);
    quads_.clear();
    for (int64_t q = 0; q < bases.quads(); ++q) {
      const float* quad = alpha_.data() + q * kQuad;
      const bool used =
          std::any_of(quad, quad + kQuad, [](float a) { return a != 0; });
      if (used) quads_.push_back(static_cast<int32_t>(q));
    }
  }
  const float* alpha() const { return alpha_.data(); }
  const std::vector<int32_t>& quads() const { return quads_; }

 private:
  Buffer<float> alpha_;
  std::vector<int32_t> quads_;
};

// All bases at a row's group of columns, as mixes of experts read them.
class MixTile {
 public:
  MixTile(const PackedMixSet& set, const PackedBases& bases)
      : set_(set), bases_(bases) {
    scales_.Resize(PaddedBases(bases));
    std::fill(scales_.begin(), scales_.end(), 0.0f);
  }

  // The first `cols` columns of a group.
  void Load(int64_t row, int64_t group, int64_t cols) {
    blocks_ = (cols + kBasesBlock - 1) / kBasesBlock;
    const std::byte* scales = bases_.Scales(row, group);
    for (int64_t i = 0; i < bases_.num_bases; ++i) {
      BFloat16 scale{};
      std::memcpy(&scale, scales + 2 * i, 2);
      scales_[i] = ToFloat(scale);
    }
    const uint8_t* codes = bases_.Codes(row, group);
    codes_ = codes;
    if (set_.prepare == nullptr) return;
    const int64_t count = blocks_ * bases_.block_bytes();
    prepared_.Resize(count * set_.prepared_bytes);
    set_.prepare(codes, count, prepared_.data());
    codes_ = prepared_.data();
  }

  void Round(const MixAlphas& alphas, RoundedAlphas* rounded) const {
    set_.round(alphas.alpha(), scales_.data(), scales_.size(), rounded);
  }
  // n [kBasesGroup] = the columns of an expert's N.
  void Mix(const MixAlphas& alphas, const RoundedAlphas& rounded, Activation f,
           float* n) const {
    set_.mix(codes_, bases_.quads(), rounded, alphas.quads().data(),
             static_cast<int64_t>(alphas.quads().size()), blocks_, f, n);
  }

 private:
  const PackedMixSet& set_;
  const PackedBases& bases_;
  Buffer<float> scales_;
  Buffer<std::byte> prepared_;
  const void* codes_ = nullptr;
  int64_t blocks_ = 0;
};

// Asks for part `i` of `parts` of the next tile: they lie one behind the other.
// Nothing faults where there is no memory.
void PrefetchPart(const uint8_t* next, int64_t bytes, int64_t i,
                  int64_t parts) {
  constexpr int64_t kLine = 64;
  const int64_t end = bytes * (i + 1) / parts;
  for (int64_t at = bytes * i / parts; at < end; at += kLine) {
    __builtin_prefetch(next + at, 0, 2);
  }
}

float SumOfLanes(float* sums) {
  for (int64_t half = kMixLanes / 2; half > 0; half /= 2) {
    for (int64_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0];
}

}  // namespace

const std::vector<PackedMixSet>& SupportedPackedMixes() {
  static const std::vector<PackedMixSet> sets = ListPackedMixes();
  return sets;
}

const PackedMixSet& PackedMix() {
  return *std::ranges::find(
      SupportedPackedMixes(), std::string_view(Dots().mix),
      [](const auto& set) { return std::string_view(set.name); });
}

void MultiplyPackedMix(const PackedMixSet& set, const PackedBases& bases,
                       Activation f, std::span<const MixJob> jobs,
                       int64_t first, int64_t rows) {
  thread_local std::vector<MixAlphas> alphas;
  thread_local std::vector<RoundedAlphas> rounded;
  thread_local Buffer<float> sums;  // [all tokens, kMixLanes]
  alphas.resize(std::max(alphas.size(), jobs.size()));
  rounded.resize(std::max(rounded.size(), jobs.size()));
  int64_t tokens = 0;
  for (size_t j = 0; j < jobs.size(); ++j) {
    alphas[j].Set(bases, jobs[j].alpha);
    tokens += jobs[j].tokens;
  }
  sums.Resize(tokens * kMixLanes);
  MixTile tile(set, bases);
  alignas(64) float n[kBasesGroup];
  const auto parts = static_cast<int64_t>(jobs.size());
  for (int64_t row = first; row < first + rows; ++row) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (int64_t group = 0; group < bases.groups(); ++group) {
      const int64_t col = group * kBasesGroup;
      const int64_t cols = std::min(kBasesGroup, bases.cols - col);
      tile.Load(row, group, cols);
      const int64_t bytes = kBasesGroup / kBasesBlock * bases.block_bytes();
      const uint8_t* next = bases.Codes(row, group) + bytes;
      for (size_t j = 0; j < jobs.size(); ++j) {
        tile.Round(alphas[j], &rounded[j]);
      }
      float* sum = sums.data();
      for (int64_t j = 0; j < parts; ++j) {
        const MixJob& job = jobs[static_cast<size_t>(j)];
        PrefetchPart(next, bytes, j, parts);
        tile.Mix(alphas[static_cast<size_t>(j)],
                 rounded[static_cast<size_t>(j)], f, n);
        for (int64_t t = 0; t < job.tokens; ++t, sum += kMixLanes) {
          set.multiply(n, job.x + t * bases.cols + col, cols, sum);
        }
      }
    }
    float* sum = sums.data();
    for (const MixJob& job : jobs) {
      for (int64_t t = 0; t < job.tokens; ++t, sum += kMixLanes) {
        job.u[t * bases.rank + row] = SumOfLanes(sum);
      }
    }
  }
}

void StorePackedMix(const PackedMixSet& set, const PackedBases& bases,
                    const float* alpha, Activation f, int64_t row, int64_t rows,
                    int64_t col, int64_t cols, float* out) {
  thread_local MixAlphas alphas;
  RoundedAlphas rounded;
  alphas.Set(bases, alpha);
  MixTile tile(set, bases);
  alignas(64) float n[kBasesGroup];
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; c += kBasesGroup) {
      const int64_t count = std::min(kBasesGroup, cols - c);
      tile.Load(row + r, (col + c) / kBasesGroup, count);
      tile.Round(alphas, &rounded);
      tile.Mix(alphas, rounded, f, n);
      std::copy_n(n, count, out + r * cols + c);
    }
  }
}

}  // namespace mobe
