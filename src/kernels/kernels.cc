#include "kernels/kernels.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <iterator>

#include "base/error.h"
#include "kernels/kernels_internal.h"

namespace mobe {
namespace {

// In the order of the enumerators.
constexpr const char* kActivationNames[] = {"silu", "tanh", "identity"};

std::atomic<const KernelSet*> g_kernels = nullptr;

// `source` says where the name comes from.
const KernelSet& FindKernels(std::string_view name, std::string_view source) {
  const std::vector<KernelSet>& sets = SupportedKernels();
  const auto found =
      std::find_if(sets.begin(), sets.end(),
                   [name](const KernelSet& set) { return set.name == name; });
  if (found != sets.end()) return *found;
  std::vector<std::string_view> names;
  names.reserve(sets.size());
  for (const KernelSet& set : sets) names.emplace_back(set.name);
  Fail(ErrorKind::kUserInput,
       "{}: there is no kernel set \"{}\" on this CPU; use one of {}", source,
       name, fmt::join(names, ", "));
}

const KernelSet& InitialKernels() {
  const char* name = std::getenv("MOBE_KERNELS");
  if (name == nullptr || *name == '\0') return SupportedKernels().front();
  return FindKernels(name, "environment variable MOBE_KERNELS");
}

}  // namespace

const char* ActivationName(Activation activation) {
  return kActivationNames[static_cast<int>(activation)];
}

std::optional<Activation> ActivationFromName(std::string_view name) {
  const auto* const found =
      std::find(std::begin(kActivationNames), std::end(kActivationNames), name);
  if (found == std::end(kActivationNames)) return std::nullopt;
  return static_cast<Activation>(found - std::begin(kActivationNames));
}

const KernelSet& Kernels() {
  const KernelSet* kernels = g_kernels.load(std::memory_order_acquire);
  if (kernels == nullptr) {
    // Two threads that come here at once choose the same set; a ForceKernels
    // that comes between wins.
    const KernelSet* initial = &InitialKernels();
    if (g_kernels.compare_exchange_strong(kernels, initial)) return *initial;
  }
  return *kernels;
}

const std::vector<KernelSet>& SupportedKernels() {
  static const std::vector<KernelSet> sets = [] {
    std::vector<KernelSet> all = SimdKernels();
    all.push_back(ScalarKernels());
    return all;
  }();
  return sets;
}

void ForceKernels(std::string_view name) {
  g_kernels.store(&FindKernels(name, "kernels"), std::memory_order_release);
}

float* RowScratch(int64_t cols) {
  thread_local Buffer<float> scratch;
  scratch.Resize(std::max<int64_t>(cols, 1));
  return scratch.data();
}

}  // namespace mobe
