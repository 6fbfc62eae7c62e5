#include "mobe/stacked.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace mobe {
namespace {

// MXFP4 (Open Compute Project, Microscaling Formats 1.0): in place of a stacked
// tensor X, X_blocks [experts, rows of all parts, cols / 32, 16], two numbers
// in a byte, and X_scales [experts, rows of all parts, cols / 32], powers of
// two.
std::string BlocksName(const StackedSpec& spec) {
  return spec.name + kMxBlocksEnding;
}

void CheckShape(const Checkpoint& checkpoint, const TensorView& tensor,
                const std::vector<int64_t>& shape) {
  if (tensor.shape == shape) return;
  Fail(ErrorKind::kCorruptFile,
       "{}: tensor {} has shape {}, expected {} by config.json",
       checkpoint.FileOf(tensor), tensor.name, tensor.shape, shape);
}

// A view of each part, expert by expert; `place` says where its numbers lie.
std::vector<TensorView> PartsOf(
    const Family& family, const ModelConfig& config, int64_t layer,
    const StackedSpec& spec,
    const std::function<void(int64_t expert, int64_t part, TensorView*)>&
        place) {
  std::vector<TensorView> parts;
  for (int64_t expert = 0; expert < config.num_experts; ++expert) {
    for (int64_t i = 0; i < std::ssize(spec.parts); ++i) {
      TensorView& part = parts.emplace_back();
      part.name =
          TensorName(family, spec.parts[static_cast<size_t>(i)], layer, expert);
      part.shape = {spec.rows, spec.cols};
      place(expert, i, &part);
    }
  }
  return parts;
}

void SplitBlocks(const Family& family, const ModelConfig& config, int64_t layer,
                 const StackedSpec& spec, const TensorView& blocks,
                 Checkpoint* checkpoint) {
  if (spec.stacking != Stacking::kTurnsTransposed ||
      spec.cols % kMxBlock != 0) {
    Fail(
        ErrorKind::kUnsupported,
        "{}: tensor {}: MXFP4 is read as gpt-oss has it, with rows of gate and "
        "up in turns and of a multiple of {} columns",
        checkpoint->FileOf(blocks), blocks.name, kMxBlock);
  }
  const auto in_expert = std::ssize(spec.parts);
  const int64_t groups = spec.cols / kMxBlock;
  const std::vector<int64_t> scales_shape = {config.num_experts,
                                             in_expert * spec.rows, groups};
  std::vector<int64_t> shape = scales_shape;
  shape.push_back(kMxBlock / 2);
  const TensorView& all = checkpoint->At(spec.name + kMxScalesEnding);
  CheckShape(*checkpoint, blocks, shape);
  CheckShape(*checkpoint, all, scales_shape);
  for (const TensorView* tensor : {&blocks, &all}) {
    if (tensor->dtype == DType::kU8) continue;
    Fail(ErrorKind::kCorruptFile, "{}: tensor {} has dtype {}, expected U8",
         checkpoint->FileOf(*tensor), tensor->name, DTypeName(tensor->dtype));
  }
  std::vector<TensorView> scales;
  auto parts = PartsOf(
      family, config, layer, spec,
      [&](int64_t expert, int64_t i, TensorView* part) {
        const int64_t row = expert * in_expert * spec.rows + i;
        part->dtype = DType::kU8;
        part->code_bits = 4;
        part->is_fp4 = true;
        part->row_stride = in_expert * spec.cols;
        part->col_stride = 1;
        part->block = {1, kMxBlock};
        part->data =
            blocks.data.subspan(static_cast<size_t>(row * spec.cols / 2),
                                static_cast<size_t>(spec.rows * spec.cols / 2));
        TensorView& own = scales.emplace_back(all);
        own.dtype = DType::kF8E8M0;
        own.shape = {spec.rows, groups};
        own.data = all.data.subspan(static_cast<size_t>(row * groups),
                                    static_cast<size_t>(spec.rows * groups));
      });
  checkpoint->Split(blocks, all, std::move(parts), std::move(scales));
}

// Qwen3-VL is published transposed, and transformers 5 writes it under the same
// names as it has it in memory: the shape tells.
StackedSpec AsStored(const StackedSpec& spec, const TensorView& whole) {
  if (spec.stacking != Stacking::kPartsTransposed || spec.shape.size() != 3 ||
      whole.shape == spec.shape) {
    return spec;
  }
  StackedSpec upright = spec;
  std::swap(upright.shape[1], upright.shape[2]);
  upright.stacking = Stacking::kParts;
  return whole.shape == upright.shape ? upright : spec;
}

void SplitWhole(const Family& family, const ModelConfig& config, int64_t layer,
                const StackedSpec& published, const TensorView& whole,
                Checkpoint* checkpoint) {
  const StackedSpec spec = AsStored(published, whole);
  CheckShape(*checkpoint, whole, spec.shape);
  const auto in_expert = std::ssize(spec.parts);
  const int64_t size = DTypeSize(whole.dtype);
  const int64_t elements = spec.rows * spec.cols;
  auto parts = PartsOf(
      family, config, layer, spec,
      [&](int64_t expert, int64_t i, TensorView* part) {
        const PartPlace place = PlaceOf(spec, i);
        const int64_t first = expert * in_expert * elements + place.first;
        if (spec.stacking != Stacking::kParts) {
          part->row_stride = place.row_stride;
          part->col_stride = place.col_stride;
        }
        part->dtype = whole.dtype;
        part->data = whole.data.subspan(static_cast<size_t>(first * size),
                                        static_cast<size_t>(elements * size));
      });
  checkpoint->Split(whole, std::move(parts));
}

}  // namespace

bool HasStacked(const Family& family, const ModelConfig& config,
                const Checkpoint& checkpoint, int64_t layer) {
  return std::ranges::any_of(
      ListStacked(family, config, layer), [&](const StackedSpec& spec) {
        return checkpoint.Find(spec.name) != nullptr ||
               checkpoint.Find(BlocksName(spec)) != nullptr;
      });
}

void SplitStacked(const Family& family, const ModelConfig& config,
                  Checkpoint* checkpoint) {
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (!config.IsMoeLayer(layer)) continue;
    for (const StackedSpec& spec : ListStacked(family, config, layer)) {
      const TensorView* whole = checkpoint->Find(spec.name);
      const TensorView* blocks = checkpoint->Find(BlocksName(spec));
      if (whole != nullptr) {
        SplitWhole(family, config, layer, spec, *whole, checkpoint);
      } else if (blocks != nullptr) {
        SplitBlocks(family, config, layer, spec, *blocks, checkpoint);
      }
    }
  }
}

}  // namespace mobe
