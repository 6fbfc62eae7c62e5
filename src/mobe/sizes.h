// Counting parameters, plain and factored, and the two ratios that mobe always
// prints.
#pragma once

#include <cstdint>
#include <vector>

#include "mobe/open_model.h"

namespace mobe {

// Parameters (numbers, not bytes) by part of the model.
struct PartSizes {
  int64_t embedding = 0;  // input embedding and output head
  int64_t attention = 0;
  int64_t router = 0;
  int64_t experts = 0;
  int64_t dense = 0;  // what every token uses: dense layers, shared experts
  int64_t norms = 0;
  int64_t other = 0;  // all but experts, of families that are not run

  int64_t total() const {
    return embedding + attention + router + experts + dense + norms + other;
  }
};
// The parts by name.
struct PartRow {
  const char* name;
  int64_t PartSizes::*size;
};
inline constexpr PartRow kParts[] = {
    {"embedding", &PartSizes::embedding}, {"attention", &PartSizes::attention},
    {"router", &PartSizes::router},       {"experts", &PartSizes::experts},
    {"dense", &PartSizes::dense},         {"norms", &PartSizes::norms},
    {"other", &PartSizes::other}};

// Of a model's tensors, or of those that are to take their place.
PartSizes CountParts(const OpenedModel& model,
                     const std::vector<TensorSpec>& tensors);

// What is kept of the plain model, in parameters: 1 is no compression.
struct Ratios {
  double experts = 1;  // of expert weights
  double model = 1;    // of all weights
};
Ratios RatiosOf(const PartSizes& stored, const PartSizes& plain);

// Parameters of one matrix kind of one layer: plain, and factored.
int64_t MatricesSize(const ModelConfig& config);
int64_t FactorsSize(const ModelConfig& config, const FactorShape& shape);

// The largest number of bases that keeps at most `ratio` of the expert weights
// of each factored layer, `num_kinds` of whose three kinds are factored with
// the ranks and groups of `shape`. Fails with kUserInput, giving the possible
// range, when no number does.
int64_t BasesForRatio(const ModelConfig& config, double ratio,
                      int64_t num_kinds, FactorShape shape);

}  // namespace mobe
