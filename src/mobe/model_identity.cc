#include "mobe/model_identity.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"

namespace mobe {
namespace {

constexpr size_t kPieces = 64;
constexpr size_t kPieceBytes = 4096;

bool IsNumbers(const std::string& name) {
  return name.ends_with(".safetensors") || name == "config.json";
}

bool IsPartOfModel(const std::string& name) {
  static const std::set<std::string> kNames = {
      "generation_config.json", "tokenizer.json", "tokenizer_config.json",
      "tiktoken.model"};
  return IsNumbers(name) || kNames.contains(name);
}

std::string IdentityOf(const std::filesystem::path& folder,
                       bool (*counts)(const std::string& name)) {
  if (!IsFolder(folder)) {
    Fail(ErrorKind::kMissing, "{}: no such folder, expected a model's",
         folder.string());
  }
  std::set<std::string> names;
  for (const std::string& name : ListFolder(folder)) {
    if (counts(name) && IsFile(folder / name)) names.insert(name);
  }
  Sha256 hash;
  const auto add = [&](const std::string& text) {
    hash.Add(std::as_bytes(std::span(text)));
  };
  for (const std::string& name : names) {
    const MappedFile file(folder / name);
    const auto bytes = file.bytes();
    add(name + "\n" + std::to_string(bytes.size()) + "\n");
    for (size_t i = 0; i < kPieces; ++i) {
      const auto piece = bytes.subspan(bytes.size() / kPieces * i);
      hash.Add(piece.first(std::min(piece.size(), kPieceBytes)));
    }
  }
  return hash.Hex();
}

}  // namespace

std::string ModelIdentity(const std::filesystem::path& folder) {
  return IdentityOf(folder, IsPartOfModel);
}

std::string WeightsIdentity(const std::filesystem::path& folder) {
  return IdentityOf(folder, IsNumbers);
}

}  // namespace mobe
