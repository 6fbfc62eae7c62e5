#include "compress/write_plain.h"

#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "io/fp8.h"
#include "mobe/copy_tensors.h"

namespace mobe {

bool WritePlain(const OpenedModel& model, const std::filesystem::path& out,
                WriteJob job, const ComputeFn& compute,
                const ProgressFn& progress) {
  job.written = ListTensors(*model.family, model.config);
  job.config = ConfigWithoutFp8(PlainConfig(model.checkpoint.config()));
  std::unordered_map<std::string, TensorSpec> specs;
  for (const TensorSpec& spec : job.written) {
    job.tensors.push_back(
        {spec.name, ComputedDType(model.checkpoint.At(spec.name)), spec.shape});
    specs[spec.name] = spec;
  }
  // What the table does not know is taken over, too.
  std::unordered_set<std::string> known;
  for (const TensorSpec& spec : model.tensors) known.insert(spec.name);
  AddOtherCopies(model.checkpoint, known, /*keep_fp8=*/false, &job.tensors);

  Buffer<float> values;
  Buffer<std::byte> stored;
  job.source = [&](const TensorDecl& tensor, const ByteSink& sink) {
    const auto found = specs.find(tensor.name);
    values.Resize(tensor.elements());
    if (found != specs.end() && compute(found->second, values.data())) {
      stored.Resize(tensor.bytes());
      StoreFloats(values.data(), values.size(), tensor.dtype, stored.data());
      sink({stored.data(), static_cast<size_t>(stored.size())});
    } else {
      CopyTensor(model.checkpoint, tensor, sink);
    }
  };
  return WriteModel(model, out, job, progress);
}

}  // namespace mobe
