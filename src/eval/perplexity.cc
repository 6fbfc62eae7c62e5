#include "eval/perplexity.h"

#include <vector>

#include "base/parallel.h"

namespace mobe {

PerplexityReport Perplexity(const Model& model, const EvalText& text,
                            const EvalOptions& options) {
  std::vector<double> losses;
  const Model* const models[] = {&model};
  const EvalRun run = RunWindows(
      models, text, options,
      [&](int64_t tokens) { losses.resize(static_cast<size_t>(tokens)); },
      [&](const Piece& piece) {
        const auto rows = static_cast<int64_t>(piece.targets.size());
        ParallelFor(rows, [&](int64_t i) {
          const std::span<const float> row = piece.Row(0, i);
          const auto target =
              static_cast<size_t>(piece.targets[static_cast<size_t>(i)]);
          losses[static_cast<size_t>(piece.first + i)] =
              Finite(model, SoftmaxOf(row).log_sum - row[target]);
        });
      });
  return {ExpOf(Mean(losses)), run};
}

}  // namespace mobe
