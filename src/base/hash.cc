#include "base/hash.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/file.h"

namespace mobe {
namespace {

// Only memory can be wanting.
void CheckHash(bool ok) {
  if (!ok) Fail(ErrorKind::kOutOfMemory, "no memory for a hash");
}

}  // namespace

struct Sha256::Context {
  EVP_MD_CTX* const md = EVP_MD_CTX_new();
  Context() = default;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() { EVP_MD_CTX_free(md); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  CheckHash(context_->md != nullptr &&
            EVP_DigestInit_ex(context_->md, EVP_sha256(), nullptr) == 1);
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::Add(std::span<const std::byte> bytes) {
  CheckHash(EVP_DigestUpdate(context_->md, bytes.data(), bytes.size()) == 1);
}

std::string Sha256::Hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  CheckHash(EVP_DigestFinal_ex(context_->md, digest, &size) == 1);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    hex += fmt::format("{:02x}", digest[i]);
  }
  return hex;
}

std::string HashBytes(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.Add(bytes);
  return hash.Hex();
}

std::string HashFile(const std::filesystem::path& path) {
  Sha256 hash;
  const MappedFile file(path);
  constexpr size_t kPiece = size_t{16} << 20;
  for (auto rest = file.bytes(); !rest.empty();) {
    const auto piece = rest.first(std::min(kPiece, rest.size()));
    hash.Add(piece);
    file.Evict(piece);
    rest = rest.subspan(piece.size());
  }
  return hash.Hex();
}

}  // namespace mobe
