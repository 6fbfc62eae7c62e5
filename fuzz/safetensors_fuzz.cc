// Feeds bytes to ParseSafetensors and checks what it lets pass.
#include <algorithm>
#include <cstring>
#include <set>
#include <vector>

#include "base/checked.h"
#include "check.h"
#include "io/safetensors.h"

namespace mobe {
namespace {

void CheckParse(std::span<const std::byte> file) {
  AllowRefusal([file] {
    const SafetensorsHeader header = ParseSafetensors(file, "x.safetensors");
    std::set<std::string> names;
    uint64_t total = 0;
    for (const TensorView& tensor : header.tensors) {
      Check(names.insert(tensor.name).second);
      Check(static_cast<uint64_t>(tensor.bytes()) == tensor.data.size());
      Check(tensor.data.data() >= file.data());
      if (!tensor.data.empty()) {
        Check(tensor.data.data() + tensor.data.size() <=
              file.data() + file.size());
      }
      total += tensor.data.size();
    }
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
    Check(8 + header_bytes + total == file.size());
  });
}

}  // namespace
}  // namespace mobe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  mobe::CheckParse(input);
  // Hardly any mutation keeps the length of the header right: set it right.
  uint64_t header_bytes = 0;
  if (size < sizeof(header_bytes)) return 0;
  std::vector<std::byte> file(input.begin(), input.end());
  std::memcpy(&header_bytes, data, sizeof(header_bytes));
  header_bytes %= size - sizeof(header_bytes) + 1;
  std::memcpy(file.data(), &header_bytes, sizeof(header_bytes));
  mobe::CheckParse(file);
  // The header ends with its last '}'.
  const auto brace = std::find(file.rbegin(), file.rend() - 8, std::byte{'}'});
  header_bytes = file.rend() - brace - sizeof(header_bytes);
  std::memcpy(file.data(), &header_bytes, sizeof(header_bytes));
  mobe::CheckParse(file);
  return 0;
}
