// Reads any bytes as a tiktoken.model, by themselves and behind the lines of
// the 256 single bytes, and encodes with what comes out: the tokens' bytes must
// be the text again.
#include <string>
#include <vector>

#include "check.h"
#include "text/bpe.h"
#include "text/tiktoken.h"

namespace mobe {
namespace {

std::string ByteLines() {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string lines;
  for (int byte = 0; byte < 256; ++byte) {
    lines += kDigits[byte >> 2];
    lines += kDigits[(byte & 3) << 4];
    lines += "== " + std::to_string(byte) + "\n";
  }
  return lines;
}

void ReadAndEncode(std::string_view file) {
  const std::vector<std::string> tokens = ReadTiktoken(file, "tiktoken.model");
  Check(tokens.size() >= 256);
  const Bpe bpe(tokens);
  Bpe::Scratch scratch;
  for (const std::string_view text : {file, std::string_view("aaabcabab")}) {
    std::vector<int32_t> ids;
    bpe.Encode(text, scratch, ids);
    std::string decoded;
    for (const int32_t id : ids) decoded += tokens.at(static_cast<size_t>(id));
    Check(decoded == text);
  }
}

}  // namespace
}  // namespace mobe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string bytes = mobe::ByteLines();
  const std::string file(reinterpret_cast<const char*>(data), size);
  mobe::AllowRefusal([&] { mobe::ReadAndEncode(file); });
  mobe::AllowRefusal([&] { mobe::ReadAndEncode(bytes + file); });
  return 0;
}
