#include "cli/run_options.h"

#include <span>
#include <string>
#include <type_traits>
#include <vector>

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

}  // namespace

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
