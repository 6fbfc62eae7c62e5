// A Hugging Face checkpoint folder: config.json beside one model.safetensors,
// or model.safetensors.index.json and the shards it names. Where there are both
// weights, model.safetensors counts, as in transformers.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "io/quant_scheme.h"
#include "io/safetensors.h"

namespace mobe {

class Checkpoint {
 public:
  // Maps every shard and checks it; reads no tensor. Fails when config.json is
  // missing or no JSON object, when the index names a file outside the folder
  // (anything but a plain file name) or one that is not there. The files
  // themselves may be symbolic links out of the folder: the cache of Hugging
  // Face is made of them. Links FP8 tensors to their scales, and fails when
  // those are not what config.json says, or for a quantisation that io/fp8.h
  // does not read.
  explicit Checkpoint(std::filesystem::path folder);
  // Moved, never copied: files are mapped once.
  Checkpoint(Checkpoint&&) = default;
  Checkpoint& operator=(Checkpoint&&) = default;

  const std::filesystem::path& folder() const { return folder_; }
  const Json& config() const { return config_; }
  // "<folder>/config.json", for messages.
  std::string config_path() const;

  // All tensors, in the order of the shards' names and their data; of several
  // with one name that which the index means.
  const std::vector<const TensorView*>& tensors() const { return tensors_; }
  // Null when there is no tensor of that name.
  const TensorView* Find(const std::string& name) const;
  // Fails with kMissing, naming folder and tensor.
  const TensorView& At(const std::string& name) const;
  // How index and shards disagree on a tensor, as one line that names the file:
  // it is in another shard than the index says, in several, or in one only of
  // index and shards. Null when they agree. To be asked of what is run: of
  // other tensors published indices are wrong at times.
  const std::string* IndexFault(const std::string& name) const;
  // Puts parts of a tensor, in the order of their data, in its place.
  void Split(const TensorView& whole, std::vector<TensorView> parts);
  // The same of numbers and their scales: the i-th of `scales` are parts[i]'s.
  void Split(const TensorView& whole, const TensorView& whole_scales,
             std::vector<TensorView> parts, std::vector<TensorView> scales);
  // Where the planes of packed numbers are there in place of a tensor (see
  // PackedName and tensor/planes.h), a view of them under the tensor's name
  // takes the place of the codes; otherwise nothing changes. Fails with
  // kCorruptFile where the planes don't fit the shape, or are there twice.
  void LinkPacked(const std::string& name, const std::vector<int64_t>& shape);
  // Puts the tensors of another checkpoint for which `wanted` is true in the
  // place of its own of the same names, or behind all others. Folder and config
  // stay.
  void Take(Checkpoint other,
            const std::function<bool(const std::string& name)>& wanted);
  // The same of all tensors of a file.
  void Take(SafetensorsFile file);
  // The file that holds a tensor of tensors(), for messages.
  std::string FileOf(const TensorView& tensor) const;
  // The files with the weights, and where in them mapped data lies: nothing for
  // memory that is no part of them.
  std::vector<std::filesystem::path> shard_paths() const;
  struct Place {
    int64_t shard = 0;  // in shard_paths()
    int64_t offset = 0;
  };
  std::optional<Place> Locate(const void* data) const;
  // Lets the tensor's pages go from memory.
  void Evict(const TensorView& tensor) const;
  // And those of mapped data; other memory stays.
  void Evict(std::span<const std::byte> data) const;

  // Total bytes of all tensors.
  int64_t bytes() const;

 private:
  void OpenIndexed(const std::filesystem::path& index);
  void ListTensors();
  void LinkScales();
  // Makes a matrix of FP4 of one of bytes with two numbers each.
  void SplitPairs(TensorView* matrix) const;
  const TensorView* FindScales(const std::string& name) const;
  void LinkScales(const QuantScheme& scheme, const TensorView& scales,
                  TensorView* matrix);
  void UnpackWords(const QuantScheme& scheme);
  void LinkTransposed(const QuantScheme& scheme);
  TransposedCodes CodesOf(const QuantScheme& scheme, const TensorView& words,
                          const std::string& module,
                          const std::vector<int64_t>& shape) const;
  // Puts a tensor in the place of that of the same name, or behind all others.
  void Put(const TensorView* tensor);
  // Keeps a part of the tensor `whole`, which it names in an error.
  TensorView& Adopt(const std::string& whole, TensorView part);
  void SetScaled(const TensorView& scales, const TensorView& matrix);
  void CheckPlane(const TensorView& plane, DType dtype,
                  const std::vector<int64_t>& shape) const;
  const SafetensorsFile& ShardOf(const TensorView& tensor) const;

  std::filesystem::path folder_;
  Json config_;
  std::vector<SafetensorsFile> shards_;
  // What the index says: by tensor the file, for what is there, and the faults.
  std::unordered_map<std::string, std::string> index_;
  std::unordered_map<std::string, std::string> index_faults_;
  std::deque<TensorView> parts_;                     // of Split
  std::vector<std::deque<TensorView>> taken_parts_;  // the same of Take's
  std::deque<TransposedCodes> transposed_;           // and these, likewise
  std::vector<std::deque<TransposedCodes>> taken_transposed_;
  std::vector<const TensorView*> tensors_;
  // Keys are the names in shards_ and parts_.
  std::unordered_map<std::string_view, const TensorView*> by_name_;
};

// The names of the planes of a packed tensor (tensor/planes.h): of its codes,
// "NAME.int4", and of their scales.
std::string PackedName(const std::string& name, const FormatRow& format);
std::string PackedScalesName(const std::string& name, const FormatRow& format);

// One output file and the tensors in it.
struct Shard {
  std::string file;  // "model.safetensors", "model-00001-of-00007.safetensors"
  std::vector<TensorDecl> tensors;
};

// Splits tensors, in their order, into shards of at most max_bytes of data (a
// larger tensor gets a shard of its own), with Hugging Face's file names. A
// single shard is named model.safetensors and needs no index; no tensors make
// one empty shard.
std::vector<Shard> PlanShards(const std::vector<TensorDecl>& tensors,
                              int64_t max_bytes);

// The text of model.safetensors.index.json.
std::string ShardIndex(const std::vector<Shard>& shards);

}  // namespace mobe
