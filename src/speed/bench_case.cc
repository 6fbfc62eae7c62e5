#include "speed/bench_case.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/error.h"
#include "base/visible.h"
#include "tensor/number_names.h"

namespace mobe {
namespace {

std::vector<std::string_view> SplitAt(char separator, std::string_view text) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::optional<int64_t> AsWhole(std::string_view text, int64_t least,
                               int64_t most) {
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end || value < least || value > most) {
    return std::nullopt;
  }
  return value;
}

[[noreturn]] void RejectList(std::string_view option, std::string_view text,
                             const std::string& expected) {
  Fail(ErrorKind::kUserInput, "{} {}: expected {}, separated by commas", option,
       text, expected);
}

}  // namespace

std::string BenchText::Name() const {
  if (generate == 0) return fmt::format("pp{}", prompt);
  if (prompt == 0) return fmt::format("tg{}", generate);
  return fmt::format("pp{}+tg{}", prompt, generate);
}

std::vector<BenchCase> ListCases(const BenchLists& lists) {
  std::vector<BenchText> texts;
  for (const int64_t prompt : lists.prompts) texts.push_back({prompt, 0});
  for (const int64_t generate : lists.generates) texts.push_back({0, generate});
  texts.insert(texts.end(), lists.mixed.begin(), lists.mixed.end());
  std::erase_if(texts, [](const auto& text) { return text.tokens() == 0; });
  if (texts.empty()) {
    Fail(ErrorKind::kUserInput,
         "nothing to time: --prompt and --generate are 0 and there is no "
         "--mixed");
  }
  std::vector<BenchCase> cases;
  for (size_t load = 0; load < lists.loads; ++load) {
    for (const int threads : lists.threads) {
      for (const int64_t depth : lists.depths) {
        for (const int64_t batch : lists.batches) {
          for (const BenchText& text : texts) {
            cases.push_back({text, depth, batch, threads, load});
          }
        }
      }
    }
  }
  return cases;
}

std::vector<int64_t> ParseNumbers(std::string_view option,
                                  std::string_view text, int64_t least,
                                  int64_t most) {
  std::vector<int64_t> numbers;
  for (const std::string_view part : SplitAt(',', text)) {
    const auto number = AsWhole(part, least, most);
    if (!number) {
      RejectList(
          option, text,
          fmt::format("whole numbers from {} to {}", least, FormatCount(most)));
    }
    numbers.push_back(*number);
  }
  return numbers;
}

std::vector<BenchText> ParseMixed(std::string_view option,
                                  std::string_view text, int64_t most) {
  std::vector<BenchText> mixed;
  for (const std::string_view part : SplitAt(',', text)) {
    const auto numbers = SplitAt('+', part);
    const auto prompt = AsWhole(numbers.front(), 1, most);
    const auto generate = AsWhole(numbers.back(), 1, most);
    if (numbers.size() != 2 || !prompt || !generate) {
      RejectList(option, text, "tokens of a prompt and of a text, as 512+128");
    }
    mixed.push_back({*prompt, *generate});
  }
  return mixed;
}

std::vector<size_t> ParseNames(std::string_view option, std::string_view text,
                               const std::vector<std::string>& names) {
  std::vector<size_t> places;
  for (const std::string_view part : SplitAt(',', text)) {
    const auto found = std::ranges::find_if(
        names, [&](const auto& name) { return NameTheSame(name, part); });
    if (found == names.end()) {
      RejectList(option, text, fmt::format("{}", fmt::join(names, ", ")));
    }
    places.push_back(static_cast<size_t>(found - names.begin()));
  }
  return places;
}

}  // namespace mobe
