#include "cli/token_ids.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"
#include "base/visible.h"
#include "io/safetensors.h"

namespace mobe {
namespace {

constexpr std::string_view kBlank = " \t\r,";

int32_t CheckId(int64_t id, const std::string& source) {
  if (id < 0 || id > INT32_MAX) {
    Fail(ErrorKind::kCorruptFile, "{}: token id {}, expected 0 to {}", source,
         id, FormatCount(INT32_MAX));
  }
  return static_cast<int32_t>(id);
}

template <class T>
int64_t LoadId(const std::byte* data, int64_t index) {
  T value;
  std::memcpy(&value, data + static_cast<size_t>(index) * sizeof(T), sizeof(T));
  // Ids beyond 63 bits become negative, and are refused as such.
  return static_cast<int64_t>(value);
}

int64_t LoadId(const TensorView& tensor, int64_t index) {
  switch (tensor.dtype) {
    case DType::kU8:
      return LoadId<uint8_t>(tensor.data.data(), index);
    case DType::kI8:
      return LoadId<int8_t>(tensor.data.data(), index);
    case DType::kU16:
      return LoadId<uint16_t>(tensor.data.data(), index);
    case DType::kI16:
      return LoadId<int16_t>(tensor.data.data(), index);
    case DType::kU32:
      return LoadId<uint32_t>(tensor.data.data(), index);
    case DType::kI32:
      return LoadId<int32_t>(tensor.data.data(), index);
    default:
      return LoadId<int64_t>(tensor.data.data(), index);
  }
}

TokenIds FromTensor(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  const TensorView& tensor = file.tensors().size() == 1 ? file.tensors().front()
                                                        : file.At("input_ids");
  const size_t dims = tensor.shape.size();
  if (!IsInteger(tensor.dtype) || dims < 1 || dims > 2) {
    Fail(ErrorKind::kCorruptFile,
         "{}: tensor {} is {} with {} dimensions, expected integers [s] or "
         "[b, s]",
         path.string(), tensor.name, DTypeName(tensor.dtype), dims);
  }
  TokenIds ids{dims == 2, {}};
  const int64_t length = tensor.shape.back();
  for (int64_t i = 0; i < tensor.elements(); ++i) {
    if (i % length == 0) ids.sequences.emplace_back();
    ids.sequences.back().push_back(CheckId(LoadId(tensor, i), path.string()));
  }
  return ids;
}

std::vector<int32_t> FromList(const Json& list, const std::string& source) {
  std::vector<int32_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer()) {
      Fail(ErrorKind::kCorruptFile, "{}: {} is no integer", source, id.dump());
    }
    ids.push_back(CheckId(id.get<int64_t>(), source));
  }
  return ids;
}

TokenIds FromJson(std::string_view text, const std::string& source) {
  const Json json = ParseJson(text, source);
  TokenIds ids{!json.empty() && json.front().is_array(), {}};
  if (!ids.batched) {
    ids.sequences.push_back(FromList(json, source));
    return ids;
  }
  for (const Json& list : json) {
    if (!list.is_array()) {
      Fail(ErrorKind::kCorruptFile, "{}: {} stands between lists", source,
           list.dump());
    }
    ids.sequences.push_back(FromList(list, source));
  }
  return ids;
}

std::vector<int32_t> FromLine(std::string_view line,
                              const std::string& source) {
  std::vector<int32_t> ids;
  for (;;) {
    line.remove_prefix(std::min(line.find_first_not_of(kBlank), line.size()));
    if (line.empty()) return ids;
    const std::string_view word = line.substr(0, line.find_first_of(kBlank));
    int64_t id = 0;
    const auto [end, error] =
        std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size()) {
      Fail(ErrorKind::kCorruptFile, "{}: \"{}\" is no token id", source, word);
    }
    ids.push_back(CheckId(id, source));
    line.remove_prefix(word.size());
  }
}

TokenIds FromText(std::string_view text, const std::string& source) {
  TokenIds ids;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    auto line = FromLine(text.substr(0, end), source);
    if (!line.empty()) ids.sequences.push_back(std::move(line));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  ids.batched = ids.sequences.size() > 1;
  return ids;
}

TokenIds Read(const std::filesystem::path& path) {
  if (path.extension() == ".safetensors") return FromTensor(path);
  const std::string text = ReadTextFile(path);
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string::npos && text[first] == '['
             ? FromJson(text, path.string())
             : FromText(text, path.string());
}

}  // namespace

TokenIds ReadTokenIds(const std::filesystem::path& path) {
  TokenIds ids = Read(path);
  bool empty = ids.sequences.empty();
  for (const auto& sequence : ids.sequences) empty |= sequence.empty();
  if (empty) {
    Fail(ErrorKind::kCorruptFile, "{}: a sequence without token ids",
         path.string());
  }
  return ids;
}

}  // namespace mobe
