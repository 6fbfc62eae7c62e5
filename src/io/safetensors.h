// The safetensors file format, by the rules of its reference library
// (github.com/huggingface/safetensors, format section of its README):
//
//   8 bytes   N, little-endian: length of the header, at most 100,000,000
//   N bytes   JSON object, {"name": {"dtype", "shape", "data_offsets"}, ...},
//             data_offsets being [begin, end); "__metadata__" is optional and
//             {string: string}; may end in white space
//   rest      data; the ranges [begin, end) cover it, no holes or overlaps
//
// Stricter than the library (0.8.0) where it is lax and no sound writer goes:
// white space before the header's '{', unknown fields of a tensor, duplicate
// names of empty tensors or metadata, null metadata, a tensor written as an
// array, more than 8 dimensions and a dimension beyond 2^63 - 1 are errors.
// Every rule has its own message, which names the file and the tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"
#include "tensor/format.h"

namespace mobe {

// The longest header that the format allows.
inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

// A tensor before it has data: what a header says of it.
struct TensorDecl {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  // Elements and bytes; fails with kUnsupported when they overflow 63 bits.
  int64_t elements() const;
  int64_t bytes() const;
};

// Rows and columns of the blocks that a matrix is divided into.
struct BlockSize {
  int64_t rows = 0;
  int64_t cols = 0;
};

struct TransposedCodes;  // io/transposed_codes.h

// A tensor in a mapped file. The bytes may lie at any address: the format
// promises no alignment.
struct TensorView : TensorDecl {
  std::span<const std::byte> data;
  // In a checkpoint: the scales of an FP8 matrix (io/fp8.h) and what they are
  // of, or those of a packed one; and conversely the matrix of such scales;
  // null for all others.
  const TensorView* scales = nullptr;
  BlockSize block = {};
  const TensorView* scaled = nullptr;
  // Of a packed tensor (Checkpoint::LinkPacked): the format of its data. Name
  // and shape are then the tensor's, and data and dtype those of the codes.
  const FormatRow* packed = nullptr;
  // Of integers that the publisher quantised (io/quant_scheme.h): I8, or words
  // of 32 bits, each row in words of its own, the first code lowest and all
  // from 0 with 2^(bits - 1) in the middle. The shape counts codes.
  int code_bits = 0;
  // Of AWQ's and GPTQ's: the words are laid out otherwise, and have zeros of
  // their own. data are X.qweight's words, and scales of no blocks.
  const TransposedCodes* transposed = nullptr;
  // Codes of 4 bits are E2M1 floats, two in a byte, the first one low (MXFP4).
  bool is_fp4 = false;
  // Of a part of a stacked tensor whose numbers lie apart: elements from a row
  // to the next, and from a column to the next; 0: rows follow one another.
  // data begins at the first number, and is as long as all are together.
  int64_t row_stride = 0;
  int64_t col_stride = 0;

  // How its numbers are read; F32 for what is no matrix of weights.
  NumberFormat format() const {
    return packed != nullptr ? packed->format
                             : FormatOf(dtype).value_or(NumberFormat::kF32);
  }
  bool HasFloats() const {
    return packed != nullptr || code_bits != 0 || IsFloat(dtype);
  }
};

using Metadata = std::map<std::string, std::string>;

struct SafetensorsHeader {
  std::vector<TensorView> tensors;  // in the order of their data
  Metadata metadata;
};

// Parses and checks the whole contents of a file. `source` names it in errors:
// kCorruptFile, or kUnsupported for an element type that mobe does not know.
// Allocates in proportion to the header's length (at most some ten times it),
// whatever numbers are in it. The views point into `file`.
SafetensorsHeader ParseSafetensors(std::span<const std::byte> file,
                                   const std::string& source);

class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::vector<TensorView>& tensors() const { return header_.tensors; }
  // To link them to those of other files; names must stay.
  std::vector<TensorView>& tensors() { return header_.tensors; }
  const Metadata& metadata() const { return header_.metadata; }
  const MappedFile& file() const { return file_; }
  // Null when there is no tensor of that name.
  const TensorView* Find(const std::string& name) const;
  // Fails with kMissing, naming file and tensor.
  const TensorView& At(const std::string& name) const;

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  // Keys are the names in header_, which stay where they are when this moves.
  std::unordered_map<std::string_view, const TensorView*> by_name_;
};

// Writes a file front to back; it appears under its name on Commit
// (AtomicFile). The data section starts at a multiple of 8 bytes; the order of
// the tensors, and with it the alignment of each, is the caller's.
class SafetensorsWriter {
 public:
  // Fails with kInternal on names that repeat, with kUnsupported when the
  // header or the data would be too long.
  SafetensorsWriter(const std::filesystem::path& path,
                    std::vector<TensorDecl> tensors,
                    const Metadata& metadata = {});

  // Adds bytes to the data section. Tensors come in the order of the
  // constructor, each in one or more pieces; a piece may not cross a tensor's
  // end. Fails with kInternal when `name` is not the tensor whose turn it is.
  // Empty tensors take no Append; an empty piece is ignored.
  void Append(const std::string& name, std::span<const std::byte> piece);
  // Gives what was written, hashed. Fails with kInternal when a tensor is not
  // complete.
  FileSum Commit();

 private:
  void SkipComplete();  // moves next_ past complete (or empty) tensors

  std::string path_;  // for messages
  AtomicFile file_;
  std::vector<TensorDecl> tensors_;
  size_t next_ = 0;
  int64_t written_ = 0;  // bytes of tensors_[next_] already there
};

}  // namespace mobe
