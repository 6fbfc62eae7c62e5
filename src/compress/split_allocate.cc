#include <algorithm>
#include <numeric>
#include <queue>

#include "base/error.h"
#include "base/visible.h"
#include "compress/split.h"

namespace mobe {
namespace {

// Damage that a step saves for each number stored.
double Gain(const SplitChoice& from, const SplitChoice& to) {
  return (from.damage - to.damage) / static_cast<double>(to.size - from.size);
}

// Indices of the choices on the lower convex hull, size ascending.
std::vector<size_t> LowerHull(const std::vector<SplitChoice>& choices) {
  std::vector<size_t> order(choices.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return choices[a].size != choices[b].size
               ? choices[a].size < choices[b].size
               : choices[a].damage < choices[b].damage;
  });
  std::vector<size_t> hull;
  for (const size_t i : order) {
    const SplitChoice& next = choices[i];
    if (!hull.empty() && next.damage >= choices[hull.back()].damage) continue;
    while (hull.size() > 1 &&
           Gain(choices[hull[hull.size() - 2]], choices[hull.back()]) <=
               Gain(choices[hull.back()], next)) {
      hull.pop_back();
    }
    hull.push_back(i);
  }
  return hull;
}

// The step along its hull that a matrix may take next.
struct Step {
  double gain = 0;
  size_t matrix = 0;
  size_t at = 0;  // on the hull, where it leads

  // The largest gain is on top of the queue, of equal ones the first.
  bool operator<(const Step& other) const {
    return gain != other.gain ? gain < other.gain : matrix > other.matrix;
  }
};

}  // namespace

std::vector<size_t> AllocateSplit(
    const std::vector<std::vector<SplitChoice>>& choices, int64_t budget) {
  std::vector<std::vector<size_t>> hulls;
  std::vector<size_t> chosen;
  std::priority_queue<Step> steps;
  int64_t left = budget;
  const auto offer = [&](size_t matrix, size_t at) {
    const auto& hull = hulls[matrix];
    if (at == hull.size()) return;
    const auto& all = choices[matrix];
    steps.push({Gain(all[hull[at - 1]], all[hull[at]]), matrix, at});
  };
  for (const auto& all : choices) {
    hulls.push_back(LowerHull(all));
    chosen.push_back(hulls.back().front());
    left -= all[chosen.back()].size;
    offer(hulls.size() - 1, 1);
  }
  if (left < 0) {
    Fail(ErrorKind::kUserInput,
         "the smallest shapes that an automatic split tries take {} numbers, "
         "{} are asked for; choose a larger --ratio, or --split even",
         FormatCount(budget - left), FormatCount(budget));
  }
  while (!steps.empty()) {
    const Step step = steps.top();
    steps.pop();
    const auto& all = choices[step.matrix];
    const size_t to = hulls[step.matrix][step.at];
    const int64_t more = all[to].size - all[chosen[step.matrix]].size;
    if (more > left) continue;  // nor do its later ones fit
    left -= more;
    chosen[step.matrix] = to;
    offer(step.matrix, step.at + 1);
  }
  // The rest: any choice, on the hull or not, that fits and saves most.
  for (;;) {
    double best = 0;
    size_t matrix = 0;
    size_t to = 0;
    for (size_t i = 0; i < choices.size(); ++i) {
      const SplitChoice& now = choices[i][chosen[i]];
      for (size_t k = 0; k < choices[i].size(); ++k) {
        const SplitChoice& next = choices[i][k];
        const double saved = now.damage - next.damage;
        if (next.size - now.size > left || saved <= best) continue;
        best = saved;
        matrix = i;
        to = k;
      }
    }
    if (!(best > 0)) return chosen;
    left -= choices[matrix][to].size - choices[matrix][chosen[matrix]].size;
    chosen[matrix] = to;
  }
}

}  // namespace mobe
