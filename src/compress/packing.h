// Storing some of the tensors of a new checkpoint in few bits: which they are,
// and their bytes. What quantize and compress --format have in common.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/matrix.h"
#include "compress/packed_parts.h"
#include "fit/error_feedback.h"
#include "io/checkpoint_writer.h"
#include "mobe/open_model.h"
#include "mobe/parts.h"

namespace mobe {

// A tensor that is written, with another, in place of one that isn't.
struct PackedPlane {
  TensorSpec spec;  // of that one
  DType dtype;      // in which it would have been written
  const FormatRow* format = nullptr;
  bool is_scales = false;
};

// The names of parts, as options tell them.
Json PartNames(const std::vector<const QuantPart*>& parts);
// What stands in options for a rule: "format" and "parts".
Json RuleJson(const PackRule& rule);

struct Packing {
  std::unordered_map<std::string, PackedPlane> planes;  // by their names
  std::set<std::string> formats;                        // in use
};

// Puts planes in place of those of the tensors for which `format_of` gives a
// format.
using FormatOfFn = std::function<const FormatRow*(const TensorSpec& spec)>;
Packing PackTensors(const std::vector<TensorSpec>& specs,
                    const FormatOfFn& format_of,
                    std::vector<TensorDecl>* tensors);

// Passes numbers as a tensor of a dtype stores them.
void PassFloats(const Buffer<float>& numbers, DType dtype,
                const ByteSink& sink);

// The numbers of a tensor as they are after it was written in `dtype`.
void LoadRounded(const TensorView& tensor, DType dtype, int64_t first,
                 int64_t count, float* numbers);

// Writes planes, each matrix rounded to the nearest that its format can store
// (EncodePacked, EncodeBasesRow); an embedding as its readers want it
// (compress/embedding_norm.h).
class PlaneWriter {
 public:
  // The tensor that planes are made of, which stays until the next call. One
  // that is packed in their format, and would have been written so, is copied.
  using FindFn = std::function<const TensorView&(const TensorSpec& spec)>;
  // How much the error of each column counts; empty: all alike.
  using ImportanceFn = std::function<Buffer<float>(const TensorSpec& spec)>;
  // A matrix that is rounded elsewhere, or null.
  using RoundedFn = std::function<const RoundedMatrix*(const TensorSpec& spec)>;

  // `model` is that whose embedding is stored. It and `packing` must outlive
  // the object; the last two may be null.
  PlaneWriter(const OpenedModel& model, const Packing& packing, FindFn find,
              ImportanceFn importance = nullptr, RoundedFn rounded = nullptr)
      : model_(model),
        packing_(packing),
        find_(std::move(find)),
        importance_(std::move(importance)),
        rounded_(std::move(rounded)) {}

  // Passes the bytes of a tensor; false when it is no plane. Fast when scales
  // come next after their codes.
  bool Write(const TensorDecl& decl, const ByteSink& sink);

  // What the matrices have lost whose codes were written since the last call.
  std::vector<PackedPart> TakeParts() { return std::exchange(parts_, {}); }

 private:
  // Passes the codes, unless `sink` is null, and keeps the scales.
  Loss Encode(const TensorView& tensor, const PackedPlane& plane,
              const ByteSink& sink);
  // Likewise of a matrix that is rounded already.
  Loss Take(const TensorView& tensor, const PackedPlane& plane,
            const RoundedMatrix& rounded, const ByteSink& sink);
  // Likewise of a matrix that is rounded in a norm, some rows after others.
  Loss EncodeInNorm(const TensorView& tensor, const PackedPlane& plane,
                    const RoundingNorm& norm, const ByteSink& sink);

  const OpenedModel& model_;
  const Packing& packing_;
  const FindFn find_;
  const ImportanceFn importance_;
  const RoundedFn rounded_;
  std::vector<PackedPart> parts_;
  std::string encoded_;  // the tensor whose scales are kept
  Buffer<std::byte> codes_;
  Buffer<std::byte> scales_;
};

}  // namespace mobe
