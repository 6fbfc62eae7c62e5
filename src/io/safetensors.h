// The safetensors file format, by the rules of its reference library
// (github.com/huggingface/safetensors, format section of its README):
//
//   8 bytes   N, little-endian: length of the header, at most 100,000,000
//   N bytes   JSON object: {"name": {"dtype", "shape", "data_offsets": [b,
//   e]}},
//             "__metadata__" optional, {string: string}; may end in spaces
//   rest      data; the ranges [b, e) cover it without holes or overlaps
//
// Every rule has its own message, which names the file and the tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"

namespace mobe {

// A tensor before it has data: what a header says of it.
struct TensorDecl {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  // Elements and bytes; fails with kUnsupported when they overflow 63 bits.
  int64_t elements() const;
  int64_t bytes() const;
};

// A tensor in a mapped file. The bytes may lie at any address: the format
// promises no alignment.
struct TensorView : TensorDecl {
  std::span<const std::byte> data;
};

using Metadata = std::map<std::string, std::string>;

struct SafetensorsHeader {
  std::vector<TensorView> tensors;  // in the order of their data
  Metadata metadata;
};

// Parses and checks the whole contents of a file. `source` names it in errors.
// Allocates in proportion to the header's length, whatever numbers are in it.
SafetensorsHeader ParseSafetensors(std::span<const std::byte> file,
                                   const std::string& source);

class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::vector<TensorView>& tensors() const { return header_.tensors; }
  const Metadata& metadata() const { return header_.metadata; }
  const MappedFile& file() const { return file_; }
  // Null when there is no tensor of that name.
  const TensorView* Find(const std::string& name) const;
  // Fails with kMissing, naming file and tensor.
  const TensorView& At(const std::string& name) const;

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string, size_t> by_name_;
};

// Writes a file front to back; it appears under its name on Commit
// (AtomicFile).
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path,
                    std::vector<TensorDecl> tensors,
                    const Metadata& metadata = {});

  // Adds bytes to the data section. Tensors come in the order of the
  // constructor, each in one or more pieces; a piece may not cross a tensor's
  // end. Fails with kInternal when `name` is not the tensor whose turn it is.
  void Append(const std::string& name, std::span<const std::byte> piece);
  // Fails with kInternal when a tensor is not complete.
  void Commit();

 private:
  void SkipComplete();  // moves next_ past complete (or empty) tensors

  AtomicFile file_;
  std::vector<TensorDecl> tensors_;
  size_t next_ = 0;
  int64_t written_ = 0;  // bytes of tensors_[next_] already there
};

}  // namespace mobe
