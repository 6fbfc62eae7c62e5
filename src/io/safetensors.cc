#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <tuple>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "base/lfs.h"
#include "base/progress.h"
#include "base/visible.h"

namespace mobe {
namespace {

// The reference library has no limit; no checkpoint has a tensor of more.
constexpr size_t kMaxDims = 8;
constexpr uint64_t kMaxDim = std::numeric_limits<int64_t>::max();

// Element types of the format that DType lacks: parts of bytes, scales,
// variants of one vendor, complex numbers.
constexpr std::string_view kForeignDTypes[] = {
    "F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64"};

static_assert(std::endian::native == std::endian::little,
              "the file format is little-endian and is mapped as it is");

// Where the parser is in the header. The states of kExpected want a value.
enum class State {
  kStart,          // before the header's '{'
  kMetadata,       // after "__metadata__":
  kMetadataValue,  // after a key of it
  kTensor,         // after a tensor's name
  kDType,          // after "dtype":
  kShape,          // after "shape":
  kDim,            // in its list
  kOffsets,        // after "data_offsets":
  kOffset,         // in its list
  kName,           // in the header: a name or its '}'
  kMetadataKey,    // in the metadata: a key or its '}'
  kField,          // in a tensor: a field's name or its '}'
};

// What a value is and should be, for messages; in the order of State.
struct Expected {
  const char* subject;
  const char* expected;
};
constexpr Expected kExpected[] = {
    {"the header", "an object"},
    {"\"__metadata__\"", "an object of strings"},
    {"a value of \"__metadata__\"", "a string"},
    {"its entry", "an object of \"dtype\", \"shape\" and \"data_offsets\""},
    {"\"dtype\"", "a string"},
    {"\"shape\"", "a list of integers"},
    {"a dimension in \"shape\"", "an integer from 0 to 2^63 - 1"},
    {"\"data_offsets\"", "a list of two integers"},
    {"a number in \"data_offsets\"", "an integer from 0 to 2^64 - 1"},
};

struct Field {
  std::string_view name;
  State state;
};
constexpr Field kFields[] = {{"dtype", State::kDType},
                             {"shape", State::kShape},
                             {"data_offsets", State::kOffsets}};

// Takes the events of the JSON parser and builds the header, checking all that
// concerns one tensor. No tree of the JSON is ever made.
class HeaderHandler : public nlohmann::json_sax<Json> {
 public:
  HeaderHandler(std::span<const std::byte> data, const std::string& source)
      : data_(data), source_(source) {}

  SafetensorsHeader TakeHeader() {
    if (expected_ > data_.size()) {
      Fail(
          ErrorKind::kCorruptFile,
          "{}: cut off: it has {} bytes of data, by its header {} are expected "
          "(tensor {} ends there); get the file again",
          source_, data_.size(), expected_, Excerpt(last_));
    }
    return std::move(header_);
  }

  bool key(string_t& key) override {
    switch (state_) {
      case State::kName:
        if (key != "__metadata__") {
          StartTensor(key);
        } else if (std::exchange(has_metadata_, true)) {
          Reject("\"__metadata__\" occurs twice");
        } else {
          state_ = State::kMetadata;
        }
        break;
      case State::kMetadataKey:
        metadata_key_ = std::move(key);
        state_ = State::kMetadataValue;
        break;
      default:
        StartField(key);
    }
    return true;
  }

  bool string(string_t& value) override {
    if (state_ == State::kMetadataValue) {
      if (!header_.metadata.emplace(metadata_key_, std::move(value)).second) {
        Reject(fmt::format("\"__metadata__\" has the key {} twice",
                           Excerpt(metadata_key_)));
      }
      state_ = State::kMetadataKey;
    } else if (state_ == State::kDType) {
      SetDType(value);
      state_ = State::kField;
    } else {
      Unexpected(Excerpt(value));
    }
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kDim && value <= kMaxDim) {
      if (tensor_.shape.size() == kMaxDims) {
        Reject(fmt::format("\"shape\" has more than {} dimensions", kMaxDims));
      }
      tensor_.shape.push_back(static_cast<int64_t>(value));
    } else if (state_ == State::kOffset) {
      if (offset_count_ == offsets_.size()) RejectOffsetCount();
      offsets_[offset_count_++] = value;
    } else {
      Unexpected(std::to_string(value));
    }
    return true;
  }

  bool start_object(std::size_t) override {
    switch (state_) {
      case State::kStart:
        state_ = State::kName;
        break;
      case State::kMetadata:
        state_ = State::kMetadataKey;
        break;
      case State::kTensor:
        state_ = State::kField;
        break;
      default:
        Unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    if (state_ == State::kField) FinishTensor();
    // After the outermost '}' the parser takes nothing more.
    state_ = State::kName;
    return true;
  }

  bool start_array(std::size_t) override {
    if (state_ == State::kShape) {
      state_ = State::kDim;
    } else if (state_ == State::kOffsets) {
      state_ = State::kOffset;
    } else {
      Unexpected("a list");
    }
    return true;
  }

  bool end_array() override {
    if (state_ == State::kOffset && offset_count_ != offsets_.size()) {
      RejectOffsetCount();
    }
    state_ = State::kField;
    return true;
  }

  bool null() override { Unexpected("null"); }
  bool boolean(bool value) override { Unexpected(value ? "true" : "false"); }
  // The parser calls this for numbers with a sign only.
  bool number_integer(number_integer_t value) override {
    Unexpected(std::to_string(value));
  }
  // Fractions, exponents, and integers too long for 64 bits.
  bool number_float(number_float_t, const string_t& text) override {
    Unexpected(text.substr(0, 40));
  }
  bool binary(binary_t&) override { Unexpected("binary"); }

  bool parse_error(std::size_t, const std::string&,
                   const Json::exception& error) override {
    Fail(ErrorKind::kCorruptFile, "{}: the header is not valid JSON: {}",
         source_, ParserMessage(error));
  }

 private:
  void StartTensor(std::string& name) {
    tensor_ = {};
    tensor_.name = std::move(name);
    offset_count_ = 0;
    seen_.fill(false);
    in_tensor_ = true;
    state_ = State::kTensor;
  }

  void StartField(const std::string& name) {
    const auto* field = std::find_if(
        std::begin(kFields), std::end(kFields),
        [&name](const Field& candidate) { return candidate.name == name; });
    if (field == std::end(kFields)) {
      Reject(
          fmt::format("unknown field {}, expected \"dtype\", \"shape\" and "
                      "\"data_offsets\" only",
                      Excerpt(name)));
    }
    if (std::exchange(seen_[field - kFields], true)) {
      Reject(fmt::format("\"{}\" occurs twice", name));
    }
    state_ = field->state;
  }

  void SetDType(const std::string& name) {
    if (const auto dtype = DTypeFromName(name)) {
      tensor_.dtype = *dtype;
      return;
    }
    const bool foreign =
        std::ranges::find(kForeignDTypes, name) != std::end(kForeignDTypes);
    Reject(fmt::format("{} dtype {}", foreign ? "unsupported" : "unknown",
                       Excerpt(name)),
           foreign ? ErrorKind::kUnsupported : ErrorKind::kCorruptFile);
  }

  void FinishTensor() {
    for (size_t i = 0; i < seen_.size(); ++i) {
      if (!seen_[i]) Reject(fmt::format("\"{}\" is missing", kFields[i].name));
    }
    const auto [begin, end] = offsets_;
    if (begin > end) {
      Reject(fmt::format("\"data_offsets\" [{}, {}] end before they begin",
                         begin, end));
    }
    const auto elements = CheckedProduct(tensor_.shape);
    const auto bytes = elements
                           ? CheckedMul(*elements, DTypeSize(tensor_.dtype))
                           : std::nullopt;
    if (!bytes) {
      Reject(fmt::format("the size of shape [{}] overflows 64 bits",
                         fmt::join(tensor_.shape, ", ")));
    }
    if (*bytes != end - begin) {
      Reject(
          fmt::format("\"data_offsets\" [{}, {}] hold {} bytes, but shape "
                      "[{}] of {} has {}",
                      begin, end, end - begin, fmt::join(tensor_.shape, ", "),
                      DTypeName(tensor_.dtype), *bytes));
    }
    in_tensor_ = false;
    if (end > expected_) {
      expected_ = end;
      last_ = tensor_.name;
    }
    if (end > data_.size()) return;  // TakeHeader tells
    tensor_.data = data_.subspan(begin, *bytes);
    header_.tensors.push_back(std::move(tensor_));
  }

  [[noreturn]] void RejectOffsetCount() const {
    Reject(fmt::format(
        "\"data_offsets\" has {} numbers, expected two",
        offset_count_ < 2 ? std::to_string(offset_count_) : "more than two"));
  }

  [[noreturn]] void Unexpected(const std::string& value) const {
    const Expected& row = kExpected[static_cast<size_t>(state_)];
    Reject(
        fmt::format("{} is {}, expected {}", row.subject, value, row.expected));
  }

  [[noreturn]] void Reject(const std::string& what,
                           ErrorKind kind = ErrorKind::kCorruptFile) const {
    const std::string where =
        in_tensor_ ? fmt::format("tensor {}: ", Excerpt(tensor_.name)) : "";
    Fail(kind, "{}: {}{}", source_, where, what);
  }

  const std::span<const std::byte> data_;
  const std::string& source_;
  State state_ = State::kStart;
  SafetensorsHeader header_;
  uint64_t expected_ = 0;  // bytes of data
  std::string last_;       // the tensor that asks for them
  bool has_metadata_ = false;
  std::string metadata_key_;
  // The tensor being read.
  bool in_tensor_ = false;
  TensorView tensor_;
  std::array<uint64_t, 2> offsets_ = {};
  size_t offset_count_ = 0;
  std::array<bool, std::size(kFields)> seen_ = {};
};

void CheckNamesDiffer(const std::string& source,
                      const std::vector<TensorView>& tensors) {
  // Sorted views take less memory than a hash table.
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const TensorView& tensor : tensors) names.push_back(tensor.name);
  std::ranges::sort(names);
  const auto found = std::ranges::adjacent_find(names);
  if (found != names.end()) {
    Fail(ErrorKind::kCorruptFile, "{}: tensor {}: occurs twice", source,
         Excerpt(*found));
  }
}

// Sorts the tensors by their data, and checks that they cover all of it, each
// byte once.
void CheckCoverage(std::span<const std::byte> data, const std::string& source,
                   std::vector<TensorView>& tensors) {
  // Empty tensors may share a place; they go by name.
  std::ranges::sort(tensors, {}, [](const TensorView& t) {
    return std::tuple(t.data.data(), t.data.size(), std::string_view(t.name));
  });
  const std::byte* end = data.data();
  for (const TensorView& tensor : tensors) {
    const int64_t gap = tensor.data.data() - end;
    if (gap != 0) {
      Fail(ErrorKind::kCorruptFile, "{}: tensor {}: its data {} {}", source,
           Excerpt(tensor.name),
           gap < 0 ? "overlaps that of" : "leaves a hole after",
           &tensor == tensors.data() ? "the header"
                                     : Excerpt((&tensor - 1)->name));
    }
    end += tensor.data.size();
  }
  if (end != data.data() + data.size()) {
    Fail(ErrorKind::kCorruptFile,
         "{}: {} bytes of data belong to no tensor, at the end of the file",
         source, data.data() + data.size() - end);
  }
}

}  // namespace

int64_t TensorDecl::elements() const {
  const auto count = CheckedProduct(shape);
  if (!count || *count > kMaxDim) {
    Fail(ErrorKind::kUnsupported,
         "tensor {}: the number of elements of shape [{}] overflows 63 bits",
         Excerpt(name), fmt::join(shape, ", "));
  }
  return static_cast<int64_t>(*count);
}

int64_t TensorDecl::bytes() const {
  const auto size = CheckedMul(elements(), DTypeSize(dtype));
  if (!size || *size > kMaxDim) {
    Fail(ErrorKind::kUnsupported,
         "tensor {}: the size of shape [{}] in {} overflows 63 bits",
         Excerpt(name), fmt::join(shape, ", "), DTypeName(dtype));
  }
  return static_cast<int64_t>(*size);
}

SafetensorsHeader ParseSafetensors(std::span<const std::byte> file,
                                   const std::string& source) {
  uint64_t header_bytes = 0;
  if (file.size() < sizeof(header_bytes)) {
    Fail(ErrorKind::kCorruptFile,
         "{}: {} bytes long, too short for a safetensors file", source,
         file.size());
  }
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  file = file.subspan(sizeof(header_bytes));
  if (header_bytes > kMaxSafetensorsHeader) {
    Fail(ErrorKind::kCorruptFile,
         "{}: a header of {}, more than the {} bytes that are allowed; not a "
         "safetensors file?",
         source, FormatBytes(static_cast<double>(header_bytes)),
         FormatCount(kMaxSafetensorsHeader));
  }
  if (header_bytes > file.size()) {
    Fail(ErrorKind::kCorruptFile,
         "{}: a header of {} bytes, but only {} follow: cut off; get the file "
         "again",
         source, FormatCount(static_cast<int64_t>(header_bytes)),
         FormatCount(static_cast<int64_t>(file.size())));
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()),
                              header_bytes);
  const auto data = file.subspan(header_bytes);
  if (!text.starts_with('{')) {
    Fail(ErrorKind::kCorruptFile, "{}: the header does not begin with '{{'",
         source);
  }
  CheckJsonDepth(text, source);
  HeaderHandler handler(data, source);
  Json::sax_parse(text.begin(), text.end(), &handler);
  SafetensorsHeader header = handler.TakeHeader();
  CheckNamesDiffer(source, header.tensors);
  CheckCoverage(data, source, header.tensors);
  return header;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path) {
  CheckNoLfsPointer(file_);
  header_ = ParseSafetensors(file_.bytes(), path.string());
  by_name_.reserve(header_.tensors.size());
  for (const TensorView& tensor : header_.tensors) {
    by_name_.emplace(tensor.name, &tensor);
  }
}

const TensorView* SafetensorsFile::Find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

const TensorView& SafetensorsFile::At(const std::string& name) const {
  const TensorView* tensor = Find(name);
  if (tensor == nullptr) {
    Fail(ErrorKind::kMissing, "{}: tensor {}: not in the file",
         file_.path().string(), Excerpt(name));
  }
  return *tensor;
}

}  // namespace mobe
