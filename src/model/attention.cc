#include "model/attention.h"

namespace mobe {

void Attend(const ModelConfig& c, const AttentionWeights& w,
            const RopeTable& rope, Precision precision, int64_t layer,
            const float* x, std::span<const SequenceRows> sequences,
            AttentionScratch* s, float* y) {
  const auto project =
      c.IsLatent() ? internal::ProjectLatent : internal::ProjectGrouped;
  const auto attend =
      c.IsLatent() ? internal::AttendLatent : internal::AttendGrouped;
  const int64_t tokens = sequences.back().first + sequences.back().count;
  s->context.Resize(tokens * c.num_heads * c.value_dim);
  project(w, precision, x, tokens, s);
  for (const SequenceRows& rows : sequences) {
    attend(c, w, rope, precision, layer, rows, s);
  }
  Linear(w.output, s->context.data(), tokens, precision, y);
  if (w.output_bias.empty()) return;
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = y + t * w.output.rows;
    for (int64_t j = 0; j < w.output.rows; ++j) {
      row[j] += w.output_bias[static_cast<size_t>(j)];
    }
  }
}

}  // namespace mobe
