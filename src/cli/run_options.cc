#include "cli/run_options.h"

#include <fmt/ranges.h>

#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "cli/expect.h"
#include "speed/bench_case.h"

namespace mobe {
namespace {

template <class T>
struct Choice {
  const char* name;
  T value;
};
constexpr Choice<Precision> kPrecisions[] = {
    {"float32", Precision::kFloat32}, {"bfloat16", Precision::kBFloat16}};
constexpr Choice<ExpertMode> kModes[] = {{"auto", ExpertMode::kAuto},
                                         {"built", ExpertMode::kBuilt},
                                         {"fused", ExpertMode::kFused}};

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
  command
      ->add_option_function<std::string>(
          option,
          [choices, value](const std::string& name) {
            for (const Choice<T>& choice : choices) {
              if (name == choice.name) *value = choice.value;
            }
          },
          help)
      ->check(CLI::IsMember(names))
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

}  // namespace

std::vector<LoadOptions> RunOptionLists::All() const {
  std::vector<LoadOptions> all;
  for (const Precision precision : precisions) {
    for (const ExpertMode mode : experts) {
      all.push_back({precision, mode, kTextCache});
    }
  }
  return all;
}

void AddRunOptionLists(CLI::App* command, RunOptionLists* lists) {
  AddChoices(command, "--dtype", kPrecisions, &lists->precisions,
             "arithmetic of products with many tokens");
  AddChoices(command, "--experts", kModes, &lists->experts, "factored experts");
}

void AddRunOptions(CLI::App* command, LoadOptions* options) {
  AddChoice(command, "--dtype", kPrecisions, &options->precision,
            "arithmetic of products with many tokens");
  AddChoice(command, "--experts", kModes, &options->experts,
            "factored experts: built at load (as large as the original), fused "
            "(never built: small, slower), or what memory allows");
  AddChoice(command, "--cache", Caches(), &options->cache,
            "numbers that attention keeps of a text");
}

}  // namespace mobe
