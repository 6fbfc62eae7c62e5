// What tests above the formats share: the fixtures, and checkpoints in pieces
// that can be changed.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"
#include "io/fp8.h"
#include "io/safetensors.h"
#include "mobe/format.h"
#include "mobe/open_model.h"
#include "mobe/tensors.h"

namespace mobe {

// A folder of tests/data.
inline std::filesystem::path Fixture(std::string_view name) {
  return SourcePath("tests/data") / name;
}

// A plain model of one layer: 4 experts of 8 x 16, in one file.
inline std::filesystem::path TinyModel() {
  return Fixture("hostile/checkpoints/ok_control");
}
// A plain model of three layers, the first of them dense: 16 experts of 32 x
// 64, in three files.
inline std::filesystem::path SmallModel() {
  return Fixture("models/qwen3_moe");
}

inline Json ReadConfig(const std::filesystem::path& folder) {
  return ParseJson(ReadSmallFile(folder / "config.json"), "config.json");
}
inline void WriteConfig(const std::filesystem::path& folder,
                        const Json& config) {
  WriteText(folder / "config.json", config.dump(1));
}

// A tensor taken out of its file.
struct LooseTensor : TensorDecl {
  std::vector<std::byte> data;
};

inline std::vector<LooseTensor> ReadTensors(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  std::vector<LooseTensor> tensors;
  for (const TensorView& view : file.tensors()) {
    tensors.push_back({view, {view.data.begin(), view.data.end()}});
  }
  return tensors;
}

inline void WriteTensors(const std::filesystem::path& path,
                         const std::vector<LooseTensor>& tensors) {
  SafetensorsWriter writer(path, {tensors.begin(), tensors.end()});
  for (const LooseTensor& tensor : tensors) {
    writer.Append(tensor.name, tensor.data);
  }
  writer.Commit();
}

// The tensor of that name; the test ends with std::out_of_range without one.
inline LooseTensor& TensorOf(std::vector<LooseTensor>& tensors,
                             std::string_view name) {
  for (LooseTensor& tensor : tensors) {
    if (tensor.name == name) return tensor;
  }
  throw std::out_of_range(std::string(name));
}

// Copies a checkpoint of the fixtures to a folder that can be written to.
inline void CopyModel(const std::filesystem::path& from,
                      const std::filesystem::path& to) {
  std::filesystem::create_directories(to);
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    std::ifstream in(entry.path(), std::ios::binary);
    std::ofstream(to / entry.path().filename(), std::ios::binary) << in.rdbuf();
  }
}

// Every file below a folder, by its path there: what it holds.
inline std::map<std::string, std::string> Contents(
    const std::filesystem::path& folder) {
  std::map<std::string, std::string> contents;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    contents[entry.path().lexically_relative(folder)] =
        ReadSmallFile(entry.path());
  }
  return contents;
}

// Gives each half of the experts all bases of its own: a model in the
// reference's format in the form of two expert groups, which stands for the
// same weights. `config` and `tensors` are those of the model.
inline void SplitIntoTwoGroups(Json* config,
                               std::vector<LooseTensor>* tensors) {
  (*config)["num_B"] = 2 * config->at("num_B").get<int64_t>();
  std::vector<LooseTensor> split;
  for (LooseTensor& tensor : *tensors) {
    const bool alpha =
        tensor.name.ends_with("W_gate") || tensor.name.ends_with("W_up");
    const bool bases =
        tensor.name.ends_with("B_gate") || tensor.name.ends_with("B_up");
    if (!alpha && !bases) {
      split.push_back(std::move(tensor));
      continue;
    }
    for (const char* group : {"_0", "_1"}) {
      LooseTensor& part = split.emplace_back(tensor);
      part.name += group;
      if (!alpha) continue;
      part.shape[0] /= 2;
      const auto half = static_cast<ptrdiff_t>(part.bytes());
      const auto from = tensor.data.begin() + (part.name.back() - '0') * half;
      part.data = {from, from + half};
    }
  }
  *tensors = std::move(split);
}

// All factors of one layer, kind and group.
inline Factors LoadFactors(const OpenedModel& model, const FactorShape& shape,
                           int64_t group = 0) {
  const ExpertGroup experts = GroupAt(model.config, shape, group);
  Factors factors = LoadShared(model, shape.layer, *shape.kind, experts);
  const int64_t size = model.config.expert_size * shape.rank;
  factors.a.Resize(experts.count * size);
  for (int64_t e = 0; e < experts.count; ++e) {
    LoadFloats(model.At(shape.kind->expert, shape.layer, experts.first + e),
               factors.a.data() + e * size);
  }
  return factors;
}

// Shapes of that many bases and rank for the kinds in each of the layers.
inline std::vector<FactorShape> Shapes(
    const std::vector<int64_t>& layers,
    const std::vector<const MatrixKind*>& kinds, int64_t num_bases,
    int64_t rank, int64_t basis_rank = 0, int64_t groups = 1) {
  std::vector<FactorShape> shapes;
  for (const int64_t layer : layers) {
    for (const MatrixKind* kind : kinds) {
      shapes.push_back({layer, kind, num_bases, rank, basis_rank, groups});
    }
  }
  return shapes;
}

}  // namespace mobe
