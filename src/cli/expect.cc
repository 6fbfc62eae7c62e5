#include "cli/expect.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/visible.h"
#include "io/hub.h"
#include "tensor/number_names.h"

namespace mobe {
namespace {

// Texts that may be nothing.
constexpr std::string_view kMayBeEmpty[] = {"--prompt", "--system"};

// Not a ValidationError: CLI11 would put the option's name before it.
[[noreturn]] void Reject(const std::string& line) {
  throw CLI::ParseError(line, CLI::ExitCodes::ValidationError);
}

// `read` takes the text and gives another that means the same to CLI11, or
// nothing.
template <class Read>
CLI::Option* Expect(CLI::Option* option, const std::string& expected,
                    Read read) {
  const auto check = [option, expected, read](std::string& text) {
    std::string same = read(text);
    if (same.empty()) {
      Reject(fmt::format("{} {}: expected {}", option->get_name(), text,
                         expected));
    }
    text = std::move(same);
    return std::string();
  };
  return option->transform(CLI::Validator(check, ""));
}

template <class T>
bool ReadAll(const std::string& text, T* value) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, *value);
  return error == std::errc() && rest == end;
}

}  // namespace

CLI::Option* ExpectWhole(CLI::Option* option, uint64_t least, uint64_t most) {
  const std::string expected =
      most >= INT64_MAX ? fmt::format("a whole number, {} or more", least)
                        : fmt::format("a whole number from {} to {}", least,
                                      FormatCount(static_cast<int64_t>(most)));
  return Expect(option, expected, [=](const std::string& text) {
    uint64_t value = 0;
    // CLI11 would take "010" for 8.
    return ReadAll(text, &value) && value >= least && value <= most
               ? std::to_string(value)
               : "";
  });
}

CLI::Option* ExpectNumber(CLI::Option* option, const std::string& expected,
                          bool (*fits)(double)) {
  return Expect(option, expected, [=](const std::string& text) {
    double value = 0;
    return ReadAll(text, &value) && std::isfinite(value) && fits(value) ? text
                                                                        : "";
  });
}

CLI::Option* ExpectOneOf(CLI::Option* option,
                         const std::vector<std::string>& names) {
  const auto check = [option, names](std::string& text) {
    const auto found = std::ranges::find_if(
        names, [&](const auto& name) { return NameTheSame(name, text); });
    if (found == names.end()) {
      Reject(fmt::format("{} {}: expected {}", option->get_name(), text,
                         fmt::join(names, ", ")));
    }
    text = *found;
    return std::string();
  };
  return option->transform(
      CLI::Validator(check, fmt::format("{{{}}}", fmt::join(names, ","))));
}

CLI::Option* ExpectForm(CLI::Option* option,
                        std::function<void(const std::string&)> parse) {
  const auto check = [parse = std::move(parse)](std::string& text) {
    try {
      parse(text);
    } catch (const Error& e) {
      Reject(e.what());
    }
    return std::string();
  };
  return option->check(CLI::Validator(check, ""));
}

CLI::Option* ExpectModel(CLI::Option* option) {
  const auto find = [](std::string& text) {
    text = ModelFolder(text).string();
    return std::string();
  };
  return option->required(option->get_positional())
      ->transform(CLI::Validator(find, ""));
}

void ExpectValues(CLI::App* command) {
  for (CLI::Option* option : command->get_options()) {
    if (option->get_items_expected_max() == 0) continue;  // a flag
    if (std::ranges::count(kMayBeEmpty, option->get_name()) != 0) continue;
    ExpectForm(option, [option](const std::string& text) {
      if (!text.empty()) return;
      Reject(option->get_name() + ": expected a value, found an empty one");
    });
  }
  // Groups are subcommands to CLI11.
  for (CLI::App* group : command->get_subcommands({})) ExpectValues(group);
}

}  // namespace mobe
