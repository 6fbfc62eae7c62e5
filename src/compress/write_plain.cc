#include "compress/write_plain.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "compress/packing.h"
#include "io/fp8.h"
#include "mobe/copy_tensors.h"

namespace mobe {

namespace {

// A tensor of the result, and the matrices that it holds, kind by kind: one, or
// where it is stacked (Stacked::always) those of all experts, of which an
// expert's lie together.
struct PlainTensor {
  TensorDecl decl;
  std::vector<TensorSpec> parts;
  std::optional<StackedSpec> stack = {};
};

// The stacked tensors of a layer in place of those of its experts.
std::vector<PlainTensor> StackExperts(const OpenedModel& model, int64_t layer) {
  std::vector<PlainTensor> list;
  for (const StackedSpec& spec :
       ListStacked(*model.family, model.config, layer)) {
    if (!spec.always) continue;
    PlainTensor& tensor = list.emplace_back();
    tensor.decl = {spec.name, DType::kF32, spec.shape};
    tensor.stack = spec;
    for (const Role role : spec.parts) {
      for (int64_t expert = 0; expert < model.config.num_experts; ++expert) {
        tensor.parts.push_back({role,
                                layer,
                                expert,
                                TensorName(*model.family, role, layer, expert),
                                {spec.rows, spec.cols}});
      }
    }
    const std::string& first = tensor.parts.front().name;
    tensor.decl.dtype = ComputedDType(model.checkpoint.At(first));
  }
  return list;
}

// A part of an expert, of numbers of `size` bytes, into the expert.
void PlacePart(const StackedSpec& spec, int64_t part, int64_t size,
               const std::byte* from, std::byte* expert) {
  const PartPlace place = PlaceOf(spec, part);
  std::byte* to = expert + place.first * size;
  if (place.col_stride == 1) {
    std::copy_n(from, spec.rows * spec.cols * size, to);
    return;
  }
  for (int64_t r = 0; r < spec.rows; ++r) {
    for (int64_t c = 0; c < spec.cols; ++c) {
      std::copy_n(from + (r * spec.cols + c) * size, size,
                  to + (r * place.row_stride + c * place.col_stride) * size);
    }
  }
}

// The tensors of the family's table as the family's own classes read them.
std::vector<PlainTensor> ListPlain(const OpenedModel& model) {
  std::vector<PlainTensor> list;
  std::unordered_set<std::string> stacked;
  for (const TensorSpec& spec : ListTensors(*model.family, model.config)) {
    if (stacked.contains(spec.name)) continue;
    if (spec.expert == 0) {
      for (PlainTensor& tensor : StackExperts(model, spec.layer)) {
        for (const TensorSpec& part : tensor.parts) stacked.insert(part.name);
        list.push_back(std::move(tensor));
      }
      if (stacked.contains(spec.name)) continue;
    }
    const TensorView& source = model.checkpoint.At(spec.name);
    list.push_back({{spec.name, ComputedDType(source), spec.shape}, {spec}});
  }
  return list;
}

}  // namespace

bool WritePlain(const OpenedModel& model, const std::filesystem::path& out,
                WriteJob job, const ComputeFn& compute,
                const ProgressFn& progress) {
  job.written = ListTensors(*model.family, model.config);
  job.config = ConfigWithoutFp8(PlainConfig(model.checkpoint.config()));
  std::unordered_map<std::string, PlainTensor> plain;
  for (PlainTensor& tensor : ListPlain(model)) {
    job.tensors.push_back(tensor.decl);
    plain[tensor.decl.name] = std::move(tensor);
  }
  // What the table does not know is taken over, too.
  std::unordered_set<std::string> known;
  for (const TensorSpec& spec : model.tensors) known.insert(spec.name);
  AddOtherCopies(model.checkpoint, known, /*keep_fp8=*/false, &job.tensors);

  Buffer<float> values;
  const auto write_one = [&](const TensorSpec& spec, DType dtype,
                             const ByteSink& sink) {
    const TensorDecl part{spec.name, dtype, spec.shape};
    values.Resize(part.elements());
    if (!compute(spec, values.data())) {
      CopyTensor(model.checkpoint, part, sink);
      return;
    }
    PassFloats(values, dtype, sink);
  };
  // In memory as a whole, since `compute` makes a kind after the other.
  Buffer<std::byte> stack;
  Buffer<std::byte> part;
  const auto write_stack = [&](const PlainTensor& tensor,
                               const ByteSink& sink) {
    stack.Resize(tensor.decl.bytes());
    part.Resize(stack.size() / std::ssize(tensor.parts));
    const int64_t experts = model.config.num_experts;
    const int64_t in_expert = std::ssize(tensor.parts) / experts;
    for (int64_t i = 0; i < std::ssize(tensor.parts); ++i) {
      const TensorSpec& spec = tensor.parts[static_cast<size_t>(i)];
      std::byte* end = part.data();
      write_one(spec, tensor.decl.dtype, [&](std::span<const std::byte> piece) {
        end = std::copy(piece.begin(), piece.end(), end);
      });
      std::byte* expert = stack.data() + spec.expert * in_expert * part.size();
      PlacePart(*tensor.stack, i / experts, DTypeSize(tensor.decl.dtype),
                part.data(), expert);
    }
    sink({stack.data(), static_cast<size_t>(stack.size())});
  };
  job.source = [&](const TensorDecl& tensor, const ByteSink& sink) {
    const auto found = plain.find(tensor.name);
    if (found == plain.end()) {
      CopyTensor(model.checkpoint, tensor, sink);
    } else if (found->second.stack) {
      write_stack(found->second, sink);
    } else {
      write_one(found->second.parts.front(), tensor.dtype, sink);
    }
  };
  return WriteModel(model, out, job, progress);
}

}  // namespace mobe
