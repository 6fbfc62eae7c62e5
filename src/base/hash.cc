#include "base/hash.h"

#include <fmt/core.h>
#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/file.h"

namespace mobe {
namespace {

std::string Hex(XXH128_hash_t hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

std::string HashBytes(std::span<const std::byte> bytes) {
  return Hex(XXH3_128bits(bytes.data(), bytes.size()));
}

std::string HashFile(const std::filesystem::path& path) {
  struct FreeState {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const std::unique_ptr<XXH3_state_t, FreeState> state(XXH3_createState());
  if (!state) Fail(ErrorKind::kOutOfMemory, "no memory for a hash");
  XXH3_128bits_reset(state.get());
  const MappedFile file(path);
  constexpr size_t kPiece = size_t{16} << 20;
  for (auto rest = file.bytes(); !rest.empty();) {
    const auto piece = rest.first(std::min(kPiece, rest.size()));
    XXH3_128bits_update(state.get(), piece.data(), piece.size());
    file.Evict(piece);
    rest = rest.subspan(piece.size());
  }
  return Hex(XXH3_128bits_digest(state.get()));
}

}  // namespace mobe
