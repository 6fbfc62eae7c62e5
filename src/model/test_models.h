// The fixtures that tests of running models share.
#pragma once

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"
#include "io/safetensors.h"
#include "model/model.h"

namespace mobe {

inline std::filesystem::path TestModel(const std::string& name) {
  return SourcePath("tests/data/models") / name;
}

// A model's golden file: what transformers computed. For DeepSeek-V2 there is a
// second one, with the scale that transformers leaves out
// (families/deepseek.cc).
inline std::filesystem::path GoldenFile(const std::string& model,
                                        const std::string& ending) {
  const auto mscale = TestModel(model) / ("golden_mscale" + ending);
  return std::filesystem::exists(mscale)
             ? mscale
             : TestModel(model) / ("golden" + ending);
}

// Values of a tensor of a model's golden.safetensors: I64 or F32 there, T here.
template <class T>
std::vector<T> Golden(const std::string& model, const std::string& tensor) {
  const SafetensorsFile file(GoldenFile(model, ".safetensors"));
  const TensorView& view = file.At(tensor);
  std::vector<T> values;
  for (int64_t i = 0; i < view.elements(); ++i) {
    if (view.dtype == DType::kI64) {
      int64_t value = 0;
      std::memcpy(&value, view.data.data() + i * 8, sizeof(value));
      values.push_back(static_cast<T>(value));
    } else {
      values.push_back(
          static_cast<T>(LoadAsFloat(view.dtype, view.data.data(), i)));
    }
  }
  return values;
}

inline Json GoldenJson(const std::string& model) {
  const auto path = GoldenFile(model, ".json");
  return ParseJson(ReadSmallFile(path), path.string());
}

// Logits [sequences, tokens, vocab] of sequences of one length.
inline std::vector<float> RunModel(const Model& model,
                                   const std::vector<int32_t>& ids,
                                   int64_t tokens,
                                   const MoeObserver& observe = nullptr) {
  const auto count = static_cast<int64_t>(ids.size());
  KvCache cache(model.config(), tokens);
  std::vector<float> logits(
      static_cast<size_t>(count * model.config().vocab_size));
  for (int64_t begin = 0; begin < count; begin += tokens) {
    cache.Truncate(0);
    model.Forward({ids.data() + begin, static_cast<size_t>(tokens)}, &cache,
                  LogitsFor::kAll,
                  logits.data() + begin * model.config().vocab_size, observe);
  }
  return logits;
}

// Norm of what `found` is off `want`, over that of `want`.
inline double RelativeDistance(const std::vector<float>& found,
                               const std::vector<float>& want) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += (double{found[i]} - want[i]) * (double{found[i]} - want[i]);
    norm += double{want[i]} * want[i];
  }
  return std::sqrt(error / norm);
}

// A folder of this process for files that a test makes; removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name =
        (std::filesystem::temp_directory_path() / "mobe-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace mobe
