#include "eval/task.h"

#include <algorithm>

#include "base/unicode.h"

namespace mobe {
namespace {

size_t IndexOfLargest(const std::vector<double>& values) {
  return static_cast<size_t>(std::ranges::max_element(values) - values.begin());
}

}  // namespace

Score ScoreOfChoices(const Question& question,
                     std::span<const double> log_likelihoods) {
  const std::vector<double> plain(log_likelihoods.begin(),
                                  log_likelihoods.end());
  std::vector<double> normed = plain;
  for (size_t i = 0; i < question.choices.size() && i < normed.size(); ++i) {
    // Without the space that is before each.
    normed[i] /= static_cast<double>(CountCharacters(question.choices[i]) - 1);
  }
  const auto hit = [&](const std::vector<double>& values) {
    return Sums{IndexOfLargest(values) == question.right ? 1.0 : 0.0, 1};
  };
  return {hit(plain), hit(normed)};
}

std::vector<const EvalTask*> EvalTasks() {
  std::vector<const EvalTask*> all;
  for (const auto tasks : {TextTasks(), ChoiceTasks(), WritingTasks()}) {
    for (const EvalTask& task : tasks) all.push_back(&task);
  }
  return all;
}

}  // namespace mobe
