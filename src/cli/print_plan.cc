#include "cli/print_plan.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "cli/command.h"

namespace mobe {

Json PlanJson(const CompressPlan& plan) {
  Json json = DescribeFormat(plan.format);
  json.erase("matrices");  // the key of what is said of each matrix
  json["alphas"] = plan.options.max_alphas;
  json["formats"] = plan.packing.formats;
  json["preset"] =
      plan.options.preset.empty() ? Json() : Json(plan.options.preset);
  json["ratio_experts"] = plan.ratios.experts;
  json["ratio_model"] = plan.ratios.model;
  json["bytes_in"] = plan.bytes_in;
  json["bytes_out"] = plan.bytes_out;
  return json;
}

namespace {

// A line for each run of layers with the same shapes: bases x rank.
void PrintShapes(const CompressPlan& plan) {
  const MobeFormat& format = plan.format;
  const auto line = [&](int64_t layer) {
    std::string text;
    for (const MatrixKind* kind : plan.options.kinds) {
      const FactorShape* shape = format.Find(layer, *kind);
      text += fmt::format(
          "  {} {:9}", kind->name,
          shape == nullptr
              ? "whole"
              : fmt::format("{} x {}", shape->num_bases, shape->rank));
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };
  const std::vector<int64_t> layers = format.Layers();
  Print("bases x rank of each layer:\n");
  for (size_t first = 0, next = 0; first < layers.size(); first = next) {
    const std::string text = line(layers[first]);
    for (next = first + 1; next < layers.size(); ++next) {
      if (layers[next] != layers[next - 1] + 1) break;  // whole ones between
      if (line(layers[next]) != text) break;
    }
    const int64_t last = layers[next - 1];
    Print("  {:8}{}\n",
          layers[first] == last ? fmt::format("{}", last)
                                : fmt::format("{}-{}", layers[first], last),
          text);
  }
}

}  // namespace

void PrintPlan(const CompressPlan& plan) {
  if (!plan.options.preset.empty()) {
    Print("preset: {}\n", plan.options.preset);
  }
  Print(
      "{}{}\n"
      "expert weights kept: {:.1f}%   whole model: {:.1f}%\n"
      "bytes: {} in, {} out in {} file{}\n"
      "memory of the fit: {}\n",
      SummarizeFormat(plan.format),
      plan.options.max_alphas == 0
          ? ""
          : fmt::format(", at most {} for an expert", plan.options.max_alphas),
      100 * plan.ratios.experts, 100 * plan.ratios.model,
      FormatBytes(static_cast<double>(plan.bytes_in)),
      FormatBytes(static_cast<double>(plan.bytes_out)), plan.shards.size(),
      plan.shards.size() == 1 ? "" : "s",
      FormatBytes(static_cast<double>(plan.fit_bytes)));
  for (const FitDevice* device : plan.options.devices) {
    if (device == &TheCpu()) continue;
    Print(
        "fits on: {} ({}){}\n", device->name(), device->kind(),
        plan.device_bytes == 0
            ? ""
            : fmt::format(", {} of its memory",
                          FormatBytes(static_cast<double>(plan.device_bytes))));
  }
  if (!plan.packing.formats.empty()) {
    Print("quantised: {}\n", fmt::join(plan.packing.formats, " and "));
  }
  if (plan.options.split == Split::kAuto) PrintShapes(plan);
}

Json SideFilesJson(const SideFiles& files) {
  Json copied = Json::array();
  for (const SideFile& file : files.copied) {
    copied.push_back(TextOfName(file.name));
  }
  Json left_out = Json::object();
  for (const LeftOutFile& file : files.left_out) {
    left_out[TextOfName(file.name)] = file.why;
  }
  for (const BrokenFile& file : files.broken) {
    left_out[TextOfName(file.name)] = "can't be copied";
  }
  return {{"copied", copied}, {"left_out", left_out}};
}

void PrintSideFiles(const SideFiles& files) {
  const Json json = SideFilesJson(files);
  std::string line;
  for (const Json& name : json["copied"]) {
    line += fmt::format("{}{}", line.empty() ? "" : ", ",
                        name.get_ref<const std::string&>());
  }
  Print("copied beside the weights ({}): {}\n",
        FormatBytes(static_cast<double>(files.bytes())),
        line.empty() ? "nothing" : OneLine(line));
  line.clear();
  for (const auto& [name, why] : json["left_out"].items()) {
    line += fmt::format("{}{} ({})", line.empty() ? "" : ", ", name,
                        why.get_ref<const std::string&>());
  }
  if (!line.empty()) Print("left out: {}\n", OneLine(line));
}

Json EstimateJson(const JobEstimate& estimate) {
  return {{"seconds_expected", estimate.seconds},
          {"passes", estimate.passes},
          {"operations", estimate.operations},
          {"peak_memory_bytes", estimate.peak_memory_bytes},
          {"disk_bytes", estimate.disk_bytes},
          {"disk_free_bytes", estimate.free_bytes}};
}

void PrintEstimate(const CompressPlan& plan, const JobEstimate& estimate) {
  const auto bytes = [](int64_t count) {
    return FormatBytes(static_cast<double>(count));
  };
  const FitCost& probe = estimate.speed.first;
  const FactorJob& first = plan.jobs.front();
  Print(
      "peak memory: {} (fit {}, mapped pages {}, program {})\n"
      "disk: {} at most, {} free\n"
      "operations: {:.3g} in {} passes of each matrix\n"
      "time: {} ({} passes of {} experts of layer {} {}, {:.2g} s, measured)\n",
      bytes(estimate.peak_memory_bytes), bytes(plan.fit_bytes),
      bytes(estimate.mapped_bytes), bytes(estimate.process_bytes),
      bytes(estimate.disk_bytes), bytes(estimate.free_bytes),
      estimate.operations, estimate.passes, FormatDuration(estimate.seconds),
      probe.passes, probe.experts, first.layer, first.kind->name,
      probe.probe_seconds);
}

}  // namespace mobe
