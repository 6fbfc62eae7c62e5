// The processor as the kernel describes it, and which of the instruction sets
// that mobe has code for it can run.
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <vector>

namespace mobe {

struct Cpu {
  std::string name;             // "AMD EPYC 9654 96-Core Processor"
  std::set<std::string> flags;  // as in /proc/cpuinfo: "avx2", "amx_tile"
};

// From /proc/cpuinfo, of the first processor; what that does not tell is empty.
// `root` stands for /: a test has its own.
Cpu ReadCpu(const std::filesystem::path& root = "/");

// Instructions that make products faster.
struct Instructions {
  const char* name;  // "AVX-512 BF16"
  const char* use;   // what for
  bool available;
  std::vector<std::string> missing;  // flags, when not available
};
std::vector<Instructions> ListInstructions(const Cpu& cpu);

// A set of kernels/kernels.h, kernels/dot.h or kernels/token_lanes.h.
struct KernelChoice {
  std::string name;
  bool available;
  bool chosen;
  std::string why_not;  // why it is not chosen; empty when it is
};
// Best first, and also those that another processor would have.
std::vector<KernelChoice> ListKernels(const Cpu& cpu);
std::vector<KernelChoice> ListIntegerKernels(const Cpu& cpu);
std::vector<KernelChoice> ListBFloat16Kernels(const Cpu& cpu);

// oneDNN's name of the best instructions that its products may use, and the
// environment variable that keeps it from better ones, if one is set.
struct ProductInstructions {
  std::string name;
  std::string limited_by;
};
ProductInstructions ReadProductInstructions();

}  // namespace mobe
