#include "mobe/zeros.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <span>

namespace mobe {

bool LooksUnwritten(const TensorView& tensor, const TensorScan& scan) {
  constexpr int64_t kStretch = 1 << 20;
  if (scan.zero_bytes == 0 || tensor.name.ends_with("bias")) return false;
  return scan.zero_bytes >= kStretch || 2 * scan.zero_bytes >= tensor.bytes();
}

std::string UnwrittenWarning(const Checkpoint& checkpoint,
                             std::vector<std::string> names) {
  constexpr size_t kNamed = 3;
  if (names.empty()) return "";
  std::ranges::sort(names);
  const auto first = std::span(names).first(std::min(kNamed, names.size()));
  return fmt::format(
      "{}: {} of {} tensors are zero, all or a long stretch of them, as an "
      "incomplete download leaves them: {}{}; unless they are meant to be so "
      "(pruned experts are), get {} again",
      checkpoint.folder().string(), names.size(), checkpoint.tensors().size(),
      fmt::join(first, ", "), names.size() > kNamed ? ", ..." : "",
      checkpoint.FileOf(checkpoint.At(names.front())));
}

}  // namespace mobe
