#include "base/hash.h"

#include <fmt/core.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "base/file.h"

namespace mobe {
namespace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new()) {
    Check(context_ != nullptr &&
          EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }

  void Add(std::span<const std::byte> bytes) {
    Check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
  }

  std::string Hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    Check(EVP_DigestFinal_ex(context_.get(), digest, &size) == 1);
    std::string hex;
    for (unsigned int i = 0; i < size; ++i) {
      hex += fmt::format("{:02x}", digest[i]);
    }
    return hex;
  }

 private:
  // Only memory can be wanting.
  static void Check(bool ok) {
    if (!ok) Fail(ErrorKind::kOutOfMemory, "no memory for a hash");
  }

  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

}  // namespace

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
