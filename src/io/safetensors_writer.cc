#include <fmt/format.h>

#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "io/safetensors.h"

namespace mobe {

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<TensorDecl> tensors,
                                     const Metadata& metadata)
    : path_(path.string()), file_(path), tensors_(std::move(tensors)) {
  // Put together as text: a JSON object would lose the order.
  std::string header = "{";
  if (!metadata.empty()) {
    header += fmt::format("\"__metadata__\":{},", Json(metadata).dump());
  }
  std::unordered_set<std::string_view> names;
  int64_t begin = 0;
  for (const TensorDecl& tensor : tensors_) {
    if (!names.insert(tensor.name).second) {
      Fail(ErrorKind::kInternal, "{}: tensor {}: declared twice", path_,
           Excerpt(tensor.name));
    }
    int64_t end = 0;
    if (__builtin_add_overflow(begin, tensor.bytes(), &end)) {
      Fail(ErrorKind::kUnsupported, "{}: its size overflows 63 bits", path_);
    }
    header += fmt::format(
        "{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}},",
        Json(tensor.name).dump(), DTypeName(tensor.dtype),
        fmt::join(tensor.shape, ","), begin, end);
    begin = end;
  }
  if (header.back() == ',') header.pop_back();
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > kMaxSafetensorsHeader) {
    Fail(ErrorKind::kUnsupported,
         "{}: its header would have {} bytes, the format allows {}; write "
         "smaller shards",
         path_, header.size(), kMaxSafetensorsHeader);
  }
  const uint64_t size = header.size();
  file_.Write(std::as_bytes(std::span(&size, 1)));
  file_.Write(header);
  SkipComplete();
}

void SafetensorsWriter::Append(const std::string& name,
                               std::span<const std::byte> piece) {
  // A piece of an empty tensor is empty; that tensor has been skipped.
  if (piece.empty()) return;
  if (next_ == tensors_.size() || tensors_[next_].name != name) {
    Fail(ErrorKind::kInternal, "{}: tensor {} written out of turn, expected {}",
         path_, Excerpt(name),
         next_ == tensors_.size() ? "no more" : Excerpt(tensors_[next_].name));
  }
  const int64_t left = tensors_[next_].bytes() - written_;
  if (piece.size() > static_cast<uint64_t>(left)) {
    Fail(ErrorKind::kInternal, "{}: tensor {}: {} bytes written, {} are left",
         path_, Excerpt(name), piece.size(), left);
  }
  file_.Write(piece);
  written_ += static_cast<int64_t>(piece.size());
  SkipComplete();
}

FileSum SafetensorsWriter::Commit() {
  if (next_ != tensors_.size()) {
    Fail(ErrorKind::kInternal, "{}: tensor {} is not complete", path_,
         Excerpt(tensors_[next_].name));
  }
  return file_.Commit();
}

void SafetensorsWriter::SkipComplete() {
  while (next_ < tensors_.size() && written_ == tensors_[next_].bytes()) {
    ++next_;
    written_ = 0;
  }
}

}  // namespace mobe
