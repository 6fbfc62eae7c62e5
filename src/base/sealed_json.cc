#include "base/sealed_json.h"

#include <span>

#include "base/error.h"
#include "base/hash.h"

namespace mobe {
namespace {

constexpr std::string_view kBegin = "\n\"checksum\": \"";
constexpr std::string_view kEnd = "\"\n}\n";
constexpr size_t kDigits = 64;
constexpr size_t kSeal = kBegin.size() + kDigits + kEnd.size();

std::string HashText(std::string_view text) {
  return HashBytes(std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace

std::string SealText(std::string_view object) {
  object = object.substr(0, object.find_last_of('}'));
  std::string text(object.substr(0, object.find_last_not_of(" \n") + 1));
  if (!text.ends_with('{')) text += ',';
  const std::string hash = HashText(text);
  text += kBegin;
  text += hash;
  text += kEnd;
  return text;
}

bool HasSeal(std::string_view text) {
  return text.size() > kSeal && text.ends_with(kEnd) &&
         text.substr(text.size() - kSeal).starts_with(kBegin);
}

Json ParseSealed(std::string_view text, const std::string& source) {
  const bool sealed =
      HasSeal(text) &&
      text.substr(text.size() - kDigits - kEnd.size(), kDigits) ==
          HashText(text.substr(0, text.size() - kSeal));
  if (!sealed) {
    Fail(ErrorKind::kCorruptFile,
         "{}: damaged, or changed: its checksum is wrong or missing", source);
  }
  Json json = ParseJson(text, source);
  json.erase("checksum");
  return json;
}

}  // namespace mobe
