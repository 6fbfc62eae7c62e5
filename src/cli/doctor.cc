// mobe doctor [MODEL]
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/parallel.h"
#include "base/progress.h"
#include "base/visible.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "kernels/blas.h"
#include "machine/cpu.h"
#include "machine/disk_read.h"
#include "machine/peaks.h"
#include "mobe/parts.h"
#include "model/memory_plan.h"
#include "speed/expert_needs.h"
#include "speed/outline.h"

namespace mobe {
namespace {

constexpr double kPeakSeconds = 0.5;
constexpr double kDiskSeconds = 0.5;

struct Machine {
  Cpu cpu;
  std::vector<Instructions> instructions;
  std::vector<KernelChoice> kernels;
  std::vector<KernelChoice> integer_kernels;
  std::vector<KernelChoice> bfloat16_kernels;
  ProductInstructions products;
  Limits limits;
  Peaks peaks;
};

Machine ExamineMachine(const Limits& limits) {
  Machine machine;
  machine.cpu = ReadCpu();
  machine.instructions = ListInstructions(machine.cpu);
  machine.kernels = ListKernels(machine.cpu);
  machine.integer_kernels = ListIntegerKernels(machine.cpu);
  machine.bfloat16_kernels = ListBFloat16Kernels(machine.cpu);
  machine.products = ReadProductInstructions();
  machine.limits = limits;
  machine.peaks = MeasurePeaks(kPeakSeconds);
  return machine;
}

std::string Bytes(int64_t bytes) {
  return FormatBytes(static_cast<double>(bytes));
}

void PrintKernels(const char* what, const std::vector<KernelChoice>& kernels) {
  for (const KernelChoice& kernel : kernels) {
    Print("{:<13} {:<10} {}\n", what, kernel.name,
          kernel.chosen ? "chosen" : "not chosen: " + kernel.why_not);
  }
}

Json KernelsJson(const std::vector<KernelChoice>& kernels) {
  Json json = Json::array();
  for (const KernelChoice& kernel : kernels) {
    json.push_back({{"name", kernel.name},
                    {"available", kernel.available},
                    {"chosen", kernel.chosen},
                    {"why_not", kernel.why_not}});
  }
  return json;
}

void PrintMachine(const Machine& m) {
  const MemoryBound memory = m.limits.Memory();
  Print("CPU           {}\n", m.cpu.name.empty() ? "unknown" : m.cpu.name);
  Print("threads       {} ({:.1f} processors may be used)\n", Threads(),
        m.limits.cpus);
  Print("memory        {} available (limit: {})\n", Bytes(memory.bytes),
        memory.whose);
  Print("reading       {:.1f} GB/s\n", m.peaks.bytes_per_second / 1e9);
  for (const ProductPeak& peak : m.peaks.products) {
    const double rate = peak.operations_per_second;
    Print("products      {} in {}\n",
          rate > 0 ? fmt::format("{:.0f} GFLOP/s", rate / 1e9)
                   : "not on this CPU",
          peak.name);
  }
  Print("oneDNN        {}{}\n", m.products.name,
        m.products.limited_by.empty()
            ? ""
            : fmt::format(" (limited by {})", m.products.limited_by));
  Print("OpenBLAS      {}\n", BlasKernels());
  PrintKernels("kernels", m.kernels);
  PrintKernels("of integers", m.integer_kernels);
  PrintKernels("of bfloat16", m.bfloat16_kernels);
  for (const Instructions& set : m.instructions) {
    Print("instructions  {:<13} {:<38} {}\n", set.name, set.use,
          set.available ? "yes"
                        : fmt::format("no: this CPU lacks {}",
                                      fmt::join(set.missing, " ")));
  }
}

Json MachineJson(const Machine& m) {
  const MemoryBound memory = m.limits.Memory();
  Json json = {{"cpu", m.cpu.name},
               {"threads", Threads()},
               {"processors", m.limits.cpus},
               {"memory", {{"bytes", memory.bytes}, {"limit", memory.whose}}},
               {"bytes_per_second", m.peaks.bytes_per_second},
               {"onednn",
                {{"instructions", m.products.name},
                 {"limited_by", m.products.limited_by}}},
               {"openblas", BlasKernels()},
               {"kernels", KernelsJson(m.kernels)},
               {"integer_kernels", KernelsJson(m.integer_kernels)},
               {"bfloat16_kernels", KernelsJson(m.bfloat16_kernels)},
               {"instructions", Json::array()}};
  for (const ProductPeak& peak : m.peaks.products) {
    json["operations_per_second"][peak.name] = peak.operations_per_second;
  }
  for (const Instructions& set : m.instructions) {
    json["instructions"].push_back({{"name", set.name},
                                    {"use", set.use},
                                    {"available", set.available},
                                    {"missing", set.missing}});
  }
  return json;
}

struct Diagnosis {
  Outline outline;
  std::vector<ExpertNeed> needs;
  int64_t beside = 0;  // bytes that each takes beside its weights
  DiskRead disk;       // no bytes: the weights are not here
};

// What runs without --memory plan with.
int64_t PlannedBytes(const Limits& limits) {
  return BytesToPlan(limits.Memory().bytes);
}

Diagnosis ExamineModel(const std::string& folder, const Limits& limits) {
  Diagnosis d;
  d.outline = ReadOutline(folder);
  d.beside = LeastBytesBesideWeights(d.outline.config, kTextOptions);
  d.needs = ListExpertNeeds(d.outline, PlannedBytes(limits) - d.beside);
  if (!d.outline.shards.empty()) {
    d.disk = MeasureReading(d.outline.shards, kDiskSeconds);
  }
  return d;
}

// The formats of the parts that are quantised, in whole or in part.
std::map<std::string, std::set<std::string>> PackedParts(
    const Outline& outline) {
  std::map<std::string, std::set<std::string>> parts;
  for (const SizedTensor& tensor : outline.tensors) {
    if (tensor.packed == nullptr) continue;
    parts[QuantPartOf(tensor.spec)->name].insert(tensor.packed->name);
  }
  return parts;
}

bool Fits(int64_t bytes, const Machine& machine) {
  return bytes <= PlannedBytes(machine.limits);
}

void PrintModel(const std::string& folder, const Diagnosis& d,
                const Machine& machine) {
  Print("\n{}: {}, {} of weights{}\n", OneLine(folder),
        d.outline.family->model_type, Bytes(d.outline.bytes()),
        d.outline.shards.empty() ? ", which are not here: by config.json" : "");
  if (d.outline.mobe) Print("{}\n", SummarizeFormat(*d.outline.mobe));
  std::string stored;
  for (const auto& [part, formats] : PackedParts(d.outline)) {
    stored += fmt::format("{}{} {}", stored.empty() ? "" : ", ", part,
                          fmt::join(formats, "/"));
  }
  if (!stored.empty()) Print("quantised     {}\n", stored);
  if (d.disk.bytes > 0) {
    Print("disk          {:.2f} GB/s ({}{}{})\n", d.disk.BytesPerSecond() / 1e9,
          d.disk.direct ? "direct" : "through the page cache",
          d.disk.note.empty() ? "" : "; ", d.disk.note);
  }
  Cells cells = {{"experts", "memory", "fits", "a token", "by reading",
                  "by products", "by disk"}};
  for (const ExpertNeed& need : d.needs) {
    const DecodeBound bound =
        BoundDecode(need, machine.peaks, d.disk.BytesPerSecond());
    const auto rate = [](double value) { return fmt::format("{:.1f}", value); };
    const int64_t memory = need.memory_bytes + d.beside;
    cells.push_back(
        {need.mode, Bytes(memory), Fits(memory, machine) ? "yes" : "no",
         Bytes(need.token_bytes), rate(bound.by_reading),
         rate(bound.by_arithmetic), bound.by_disk ? rate(*bound.by_disk) : ""});
  }
  PrintTable(cells);
  Print(
      "by reading, products and disk: tokens a second, upper bounds of "
      "decoding "
      "one sequence, the lowest counts; by the disk, when it finds no expert "
      "in "
      "memory\n");
  for (const ExpertNeed& need : d.needs) {
    if (!need.cached) continue;
    Print(
        "{}: only with --experts cached; here {} of {} experts built, and "
        "found "
        "in {:.1f}% of uses, as if all were picked alike often: the least, "
        "once they are built\n",
        need.mode, FormatCount(need.cached->built),
        FormatCount(need.cached->all), 100 * need.cached->share());
  }
}

Json ModelJson(const std::string& folder, const Diagnosis& d,
               const Machine& machine) {
  Json json = {{"folder", folder},
               {"family", d.outline.family->model_type},
               {"bytes", d.outline.bytes()},
               {"weights_here", !d.outline.shards.empty()},
               {"mobe", nullptr},
               {"formats", PackedParts(d.outline)},
               {"disk", nullptr},
               {"experts", Json::array()}};
  if (d.outline.mobe) json["mobe"] = DescribeFormat(*d.outline.mobe);
  if (d.disk.bytes > 0) {
    json["disk"] = {{"bytes_per_second", d.disk.BytesPerSecond()},
                    {"bytes", d.disk.bytes},
                    {"direct", d.disk.direct},
                    {"note", d.disk.note}};
  }
  for (const ExpertNeed& need : d.needs) {
    const DecodeBound bound =
        BoundDecode(need, machine.peaks, d.disk.BytesPerSecond());
    json["experts"].push_back(
        {{"mode", need.mode},
         {"memory_bytes", need.memory_bytes + d.beside},
         {"fits", Fits(need.memory_bytes + d.beside, machine)},
         {"experts_built",
          need.cached ? Json(need.cached->built) : Json(nullptr)},
         {"share_found",
          need.cached ? Json(need.cached->share()) : Json(nullptr)},
         {"bytes_per_token", need.token_bytes},
         {"disk_bytes_per_token", need.disk_bytes},
         {"operations_per_token", need.token_operations},
         {"tokens_per_second_by_reading", bound.by_reading},
         {"tokens_per_second_by_products", bound.by_arithmetic},
         {"tokens_per_second_by_disk",
          bound.by_disk ? Json(*bound.by_disk) : Json(nullptr)},
         {"tokens_per_second", bound.least()}});
  }
  return json;
}

void RunDoctor(const std::string& folder, const CommonOptions& common) {
  std::optional<Diagnosis> diagnosis;
  const Limits limits = ReadLimits();
  if (!folder.empty()) diagnosis = ExamineModel(folder, limits);
  const Machine machine = ExamineMachine(limits);
  if (common.json) {
    Json json = {{"machine", MachineJson(machine)}, {"model", nullptr}};
    if (diagnosis) json["model"] = ModelJson(folder, *diagnosis, machine);
    return PrintJson(json);
  }
  PrintMachine(machine);
  if (diagnosis) PrintModel(folder, *diagnosis, machine);
}

}  // namespace

void AddDoctor(CLI::App& app, CommonOptions* common) {
  CLI::App* command = app.add_subcommand(
      "doctor", "tell what this machine can do, and how it would run a model");
  auto folder = std::make_shared<std::string>();
  ExpectModel(command->add_option("model", *folder,
                                  "model folder; config.json alone is enough"))
      ->required(false);
  AddCommonOptions(command, common, JsonOutput::kYes);
  command->callback([folder, common] { RunDoctor(*folder, *common); });
}

}  // namespace mobe
