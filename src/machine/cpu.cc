#include "machine/cpu.h"

#include <fmt/ranges.h>
#include <oneapi/dnnl/dnnl_debug.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <span>
#include <sstream>
#include <string_view>

#include "kernels/dot.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"
#include "kernels/token_lanes.h"

namespace mobe {
namespace {

std::vector<std::string> Words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

std::vector<std::string> Missing(const Cpu& cpu, const char* needs) {
  std::vector<std::string> missing = Words(needs);
  std::erase_if(missing,
                [&](const auto& flag) { return cpu.flags.contains(flag); });
  return missing;
}

struct InstructionsRow {
  const char* name;
  const char* use;
  const char* needs;  // flags of /proc/cpuinfo
};
constexpr InstructionsRow kInstructions[] = {
    {"AVX2", "all products", "avx2 fma f16c"},
    {"AVX-512", "all products, twice as wide", "avx512f avx512bw avx512dq"},
    {"AVX-VNNI", "products of int8", "avx_vnni"},
    {"AVX-512 VNNI", "products of int8", "avx512_vnni"},
    {"AVX-512 BF16", "products of bfloat16", "avx512_bf16"},
    {"AMX INT8", "products of int8 with many tokens", "amx_tile amx_int8"},
    {"AMX BF16", "products of bfloat16 with many tokens", "amx_tile amx_bf16"},
};

// The sets that Highway may compile for x86, by what it asks of a CPU
// (hwy/targets.cc), best first. Only what is missing is read from here: that a
// set is there SupportedKernels says.
struct KernelRow {
  const char* name;
  const char* needs;
};
constexpr KernelRow kKernelRows[] = {
    {"avx3_spr",
     "avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_bf16 avx512_fp16"},
    {"avx3_zen4", "avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_bf16"},
    {"avx3_dl",
     "avx512f avx512bw avx512dq avx512vl avx512_vnni avx512vbmi "
     "avx512_vbmi2 avx512_bitalg avx512_vpopcntdq vpclmulqdq vaes gfni"},
    {"avx3", "avx512f avx512bw avx512dq avx512vl avx512cd"},
    {"avx2", "avx2 fma bmi2 f16c"},
    {"sse4", "sse4_1 sse4_2 pclmulqdq aes"},
};

// Of kernels/dot.h.
constexpr KernelRow kDotRows[] = {
    {"amx", "avx512f avx512bw amx_tile amx_int8"},
    {"avx512vnni", "avx512f avx512bw avx512_vnni"},
    {"avxvnni", "avx2 fma avx_vnni"},
    {"avx2", "avx2 fma"},
};

// Of kernels/token_lanes.h.
constexpr KernelRow kLaneRows[] = {
    {"amx", "avx512f avx512bw amx_tile amx_bf16"},
    {"avx512bf16", "avx512f avx512bw avx512_bf16"},
};

// What keeps the best set from being chosen: the variable of its kind, or that
// of kernels.h, which can rule out the others.
std::string Forced(const char* variable) {
  for (const char* name : {variable, "MOBE_KERNELS"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') {
      return fmt::format("{} is {}", name, value);
    }
  }
  return "the kernels in use rule it out";
}

// `sets` are those that this CPU can run, best first, `chosen` is among them,
// and `variable` chooses another.
template <class Set>
std::vector<KernelChoice> ListSets(const Cpu& cpu,
                                   std::span<const KernelRow> rows,
                                   const std::vector<Set>& sets,
                                   std::string_view chosen,
                                   const char* variable) {
  const auto place = [&](std::string_view name) {
    return std::ranges::find(
        sets, name, [](const Set& set) { return std::string_view(set.name); });
  };
  std::vector<KernelChoice> list;
  for (const KernelRow& row : rows) {
    if (place(row.name) != sets.end()) continue;
    const std::vector<std::string> missing = Missing(cpu, row.needs);
    list.push_back({row.name, false, false,
                    missing.empty() ? "not in this build"
                                    : fmt::format("this CPU lacks {}",
                                                  fmt::join(missing, " "))});
  }
  for (const Set& set : sets) {
    const bool is_worse = place(set.name) > place(chosen);
    const std::string why_not = set.name == chosen ? ""
                                : is_worse ? fmt::format("{} is better", chosen)
                                           : Forced(variable);
    list.push_back({set.name, true, why_not.empty(), why_not});
  }
  return list;
}

// oneDNN reads either name.
constexpr const char* kLimits[] = {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"};

}  // namespace

Cpu ReadCpu(const std::filesystem::path& root) {
  std::ifstream in(root / "proc/cpuinfo");
  Cpu cpu;
  for (std::string line; std::getline(in, line) && !line.empty();) {
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const auto key = line.substr(0, line.find_first_of("\t:"));
    const size_t begin = line.find_first_not_of(' ', colon + 1);
    const auto value =
        begin == std::string_view::npos ? "" : line.substr(begin);
    if (key == "model name") cpu.name = value;
    if (key == "flags" || key == "Features") {
      const std::vector<std::string> flags = Words(value);
      cpu.flags = {flags.begin(), flags.end()};
    }
  }
  return cpu;
}

std::vector<Instructions> ListInstructions(const Cpu& cpu) {
  std::vector<Instructions> list;
  for (const InstructionsRow& row : kInstructions) {
    std::vector<std::string> missing = Missing(cpu, row.needs);
    const bool available = missing.empty();
    list.push_back({row.name, row.use, available, std::move(missing)});
  }
  return list;
}

std::vector<KernelChoice> ListKernels(const Cpu& cpu) {
  return ListSets(cpu, kKernelRows, SupportedKernels(), Kernels().name,
                  "MOBE_KERNELS");
}

std::vector<KernelChoice> ListIntegerKernels(const Cpu& cpu) {
  return ListSets(cpu, kDotRows, SupportedDots(), Dots().name,
                  "MOBE_INT_KERNELS");
}

std::vector<KernelChoice> ListBFloat16Kernels(const Cpu& cpu) {
  return ListSets(cpu, kLaneRows, SupportedLanes(), Lanes().name,
                  "MOBE_BF16_KERNELS");
}

ProductInstructions ReadProductInstructions() {
  ProductInstructions found;
  const auto isa = static_cast<dnnl_cpu_isa_t>(GemmInstructions());
  std::string_view name = dnnl_cpu_isa2str(isa);
  for (const std::string_view before : {"cpu_", "isa_"}) {
    if (name.starts_with(before)) name.remove_prefix(before.size());
  }
  found.name = name;
  for (const char* variable : kLimits) {
    const char* value = std::getenv(variable);
    if (value == nullptr || *value == '\0') continue;
    found.limited_by = fmt::format("{}={}", variable, value);
  }
  return found;
}

}  // namespace mobe
