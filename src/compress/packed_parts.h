// What became of the matrices of a model that were stored in few bits, by part
// and format: counted where they are encoded, kept with each file in the
// journal, told by the recipe, the model card and the report, and measured
// again by verify.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "mobe/loss.h"
#include "mobe/parts.h"
#include "tensor/format.h"

namespace mobe {

struct PackedPart {
  std::string part;      // QuantPart::name
  std::string format;    // FormatRow::name
  int64_t matrices = 0;  // the bases of a layer and kind count as one
  int64_t bytes_in = 0;  // of them before, and now
  int64_t bytes_out = 0;
  // Of what was there; of A that was solved anew (expert_rounding.h), of that.
  Loss loss;
  std::string worst;  // the tensor with the largest relative loss, and that
  double worst_relative = 0;
};

// Of one matrix.
PackedPart PackedPartOf(const TensorSpec& spec, const FormatRow& format,
                        int64_t bytes_in, const Loss& loss);
// Adds to the row of the same part and format, or a row behind the others.
void AddPackedPart(const PackedPart& added, std::vector<PackedPart>* parts);
// All rows in one, without names.
PackedPart TotalOf(const std::vector<PackedPart>& parts);

Json PackedPartsJson(const std::vector<PackedPart>& parts);
// Of JSON that PackedPartsJson made, which the caller has checked.
std::vector<PackedPart> PackedPartsOf(const Json& json);

// "a int4: 384 matrices, 12.3 MB in place of 43.2 MB, relative error 0.0912
// (worst 0.1034, model.layers...)"
std::string PackedPartText(const PackedPart& part);

}  // namespace mobe
