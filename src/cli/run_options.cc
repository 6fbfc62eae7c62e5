#include "cli/run_options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/progress.h"
#include "base/visible.h"
#include "cli/expect.h"
#include "cli/parse_bytes.h"
#include "speed/bench_case.h"

namespace mobe {
namespace {

template <class T>
struct Choice {
  const char* name;
  T value;
};
constexpr Choice<std::optional<Precision>> kPrecisions[] = {
    {"auto", std::nullopt},
    {"float32", Precision::kFloat32},
    {"bfloat16", Precision::kBFloat16}};
constexpr Choice<ExpertMode> kModes[] = {{"auto", ExpertMode::kAuto},
                                         {"built", ExpertMode::kBuilt},
                                         {"fused", ExpertMode::kFused},
                                         {"cached", ExpertMode::kCached},
                                         {"streamed", ExpertMode::kStreamed}};

// What experts can be built in (ExpertBuilder).
std::span<const Choice<std::optional<NumberFormat>>> BuiltFormats() {
  static const auto formats = [] {
    std::vector<Choice<std::optional<NumberFormat>>> choices = {
        {"stored", std::nullopt}};
    for (const FormatRow& row : Formats()) {
      if (row.packed() || row.format == NumberFormat::kF32 ||
          row.format == NumberFormat::kBF16) {
        choices.push_back({row.name, row.format});
      }
    }
    return choices;
  }();
  return formats;
}

std::span<const Choice<CacheFormat>> Caches() {
  static const auto caches = [] {
    std::vector<Choice<CacheFormat>> choices;
    for (const CacheFormat& format : kCacheFormats) {
      choices.push_back({format.name, format});
    }
    return choices;
  }();
  return caches;
}

// An option whose values are names; the default is what *value is.
template <class T>
void AddChoice(CLI::App* command, const char* option,
               std::type_identity_t<std::span<const Choice<T>>> choices,
               T* value, const char* help) {
  std::vector<std::string> names;
  std::string default_name;
  for (const Choice<T>& choice : choices) {
    names.push_back(choice.name);
    if (choice.value == *value) default_name = choice.name;
  }
  ExpectOneOf(command->add_option_function<std::string>(
                  option,
                  [choices, value](const std::string& name) {
                    for (const Choice<T>& choice : choices) {
                      if (name == choice.name) *value = choice.value;
                    }
                  },
                  help),
              names)
      ->default_str(default_name);
}

// The same for a list of them.
template <class T, size_t n>
void AddChoices(CLI::App* command, const char* option,
                const Choice<T> (&choices)[n], std::vector<T>* values,
                const std::string& help) {
  std::vector<std::string> names;
  for (const Choice<T>& choice : choices) names.push_back(choice.name);
  const auto parse = [option, names](const std::string& text) {
    return ParseNames(option, text, names);
  };
  ExpectForm(command
                 ->add_option_function<std::string>(
                     option,
                     [&choices, values, parse](const std::string& text) {
                       values->clear();
                       for (const size_t i : parse(text)) {
                         values->push_back(choices[i].value);
                       }
                     },
                     fmt::format("{}: {}", help, fmt::join(names, ", ")))
                 ->default_str(names.front()),
             parse);
}

// --built-format, --memory and --cache.
void AddMemoryOptions(CLI::App* command, LoadOptions* options) {
  AddChoice<std::optional<NumberFormat>>(
      command, "--built-format", BuiltFormats(), &options->built,
      "numbers of experts that are built; stored: those of the factors");
  const auto parse = [options](const std::string& text) {
    options->memory = ParseBytes("--memory", text);
  };
  ExpectForm(
      command->add_option_function<std::string>(
          "--memory", parse,
          "memory that the program may take, as 12GB or 800MB (default: "
          "what there is); experts that don't fit are read from the disk"),
      [](const std::string& text) { ParseBytes("--memory", text); });
  AddChoice(command, "--cache", Caches(), &options->cache,
            "numbers that attention keeps of a text");
}

std::string PassesText(const char* what, const RunStatistics::Passes& passes) {
  return fmt::format(
      "{} {} tokens at {:.1f} tok/s", what, FormatCount(passes.tokens),
      static_cast<double>(passes.tokens) / std::max(passes.seconds, 1e-9));
}

// Of experts whose uses are counted.
struct ToldMode {
  const char* name;  // as of ExpertExecutor
  std::string (*text)(const ExpertStatistics& s);
};
constexpr ToldMode kToldModes[] = {
    {"cached",
     [](const ExpertStatistics& s) {
       return fmt::format("found them built, {} were mixed, {} built meanwhile",
                          FormatCount(s.missed), FormatCount(s.built));
     }},
    {"streamed", [](const ExpertStatistics& s) {
       return fmt::format(
           "found them in memory, {} read from the disk, {:.2f} s of waiting "
           "for it",
           FormatBytes(static_cast<double>(s.disk_bytes)), s.disk_seconds);
     }}};

// "": nothing is counted.
std::string UsesText(const std::string& mode, const ExpertStatistics& s) {
  const auto* const told = std::ranges::find(kToldModes, mode, &ToldMode::name);
  if (told == std::end(kToldModes)) return "";
  const int64_t uses = s.found + s.missed;
  if (uses == 0) return ": not used";
  return fmt::format(": {:.1f}% of {} uses {}", 100 * s.share_found(),
                     FormatCount(uses), told->text(s));
}

std::string Whose(const std::string& name) {
  return name.empty() ? "" : name + ": ";
}

}  // namespace

std::vector<LoadOptions> RunOptionLists::All() const {
  std::vector<LoadOptions> all;
  for (const std::optional<Precision> precision : precisions) {
    for (const ExpertMode mode : experts) {
      LoadOptions& options = all.emplace_back(rest);
      options.precision = precision;
      options.experts = mode;
    }
  }
  return all;
}

void AddRunOptionLists(CLI::App* command, RunOptionLists* lists) {
  AddChoices(command, "--dtype", kPrecisions, &lists->precisions,
             "arithmetic of products with weights");
  AddChoices(command, "--experts", kModes, &lists->experts, "experts");
  AddMemoryOptions(command, &lists->rest);
}

void AddRunOptions(CLI::App* command, LoadOptions* options) {
  AddChoice<std::optional<Precision>>(
      command, "--dtype", kPrecisions, &options->precision,
      "arithmetic of products with weights; auto: bfloat16 where the CPU "
      "has it");
  AddChoice(command, "--experts", kModes, &options->experts,
            "factored experts: built (as large as the original), fused (never "
            "built: small, slower), cached (the most used built); any experts: "
            "streamed from the disk; or what memory allows");
  AddMemoryOptions(command, options);
}

void AddVerbose(CLI::App* command, CommonOptions* common) {
  command->add_flag("--verbose", common->verbose,
                    "tell on stderr, afterwards, how fast the model ran and "
                    "how its experts did");
}

void PrintSpeed(const RunStatistics& run, const CommonOptions& common,
                const std::string& name) {
  if (!common.verbose) return;
  std::vector<std::string> parts;
  if (run.prefill.tokens > 0) {
    parts.push_back(PassesText("prefill", run.prefill));
  }
  if (run.decode.tokens > 0) parts.push_back(PassesText("decode", run.decode));
  if (parts.empty()) return;
  PrintNote(fmt::format("{}{}", Whose(name), fmt::join(parts, ", ")));
}

void PrintExperts(const Model& model, const RunStatistics& run,
                  const CommonOptions& common, const std::string& name) {
  if (!common.verbose) return;
  for (const auto& [mode, layers] : LayersByMode(model.experts())) {
    PrintNote(fmt::format("{}experts {} in {} layer{}{}", Whose(name), mode,
                          layers, layers == 1 ? "" : "s",
                          UsesText(mode, run.experts)));
  }
}

void PrintMemory(const Model& model, const CommonOptions& common) {
  const MemoryPlan& plan = model.plan();
  const bool streams = model.experts().store != nullptr;
  if (common.quiet || (!plan.is_hard && !streams)) return;
  PrintNote(fmt::format("memory: at most {} ({})",
                        FormatBytes(static_cast<double>(plan.limit)),
                        plan.whose));
  for (const MemoryPlan::Line& line : plan.lines) {
    PrintNote(fmt::format("  {:>9}  {}",
                          FormatBytes(static_cast<double>(line.bytes)),
                          line.what));
  }
}

}  // namespace mobe
