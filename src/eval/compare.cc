#include "eval/compare.h"

#include <algorithm>
#include <vector>

#include "base/parallel.h"

namespace mobe {

CompareReport Compare(const Model& base, const Model& other,
                      const EvalText& text, const EvalOptions& options) {
  std::vector<double> klds;
  std::vector<double> base_losses;
  std::vector<double> other_losses;
  std::vector<double> log_ratios;
  std::vector<uint8_t> same_top;  // not bool, whose elements share bytes
  const Model* const models[] = {&base, &other};
  const EvalRun run = RunWindows(
      models, text, options,
      [&](int64_t tokens) {
        const auto size = static_cast<size_t>(tokens);
        for (auto* values : {&klds, &base_losses, &other_losses, &log_ratios}) {
          values->resize(size);
        }
        same_top.resize(size);
      },
      [&](const Piece& piece) {
        const auto rows = static_cast<int64_t>(piece.targets.size());
        ParallelFor(rows, [&](int64_t i) {
          const std::span<const float> p = piece.Row(0, i);
          const std::span<const float> q = piece.Row(1, i);
          const Softmax p_softmax = SoftmaxOf(p);
          const Softmax q_softmax = SoftmaxOf(q);
          const auto target =
              static_cast<size_t>(piece.targets[static_cast<size_t>(i)]);
          const auto at = static_cast<size_t>(piece.first + i);
          base_losses[at] = Finite(base, p_softmax.log_sum - p[target]);
          other_losses[at] = Finite(other, q_softmax.log_sum - q[target]);
          log_ratios[at] = other_losses[at] - base_losses[at];
          klds[at] = Finite(other, KlDivergence(p, p_softmax, q, q_softmax));
          same_top[at] = p_softmax.top == q_softmax.top;
        });
      });

  CompareReport report;
  report.kld = Mean(klds);
  std::sort(klds.begin(), klds.end());
  report.kld_p50 = Percentile(klds, 0.50);
  report.kld_p90 = Percentile(klds, 0.90);
  report.kld_p95 = Percentile(klds, 0.95);
  report.kld_p99 = Percentile(klds, 0.99);
  report.kld_max = klds.back();
  report.top1_agreement =
      Proportion(std::count(same_top.begin(), same_top.end(), 1), run.tokens);
  report.perplexity_base = ExpOf(Mean(base_losses));
  report.perplexity_other = ExpOf(Mean(other_losses));
  report.perplexity_ratio = ExpOf(Mean(log_ratios));
  report.run = run;
  return report;
}

}  // namespace mobe
