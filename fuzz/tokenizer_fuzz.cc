// Reads any bytes as a tokenizer.json, beside a tokenizer_config.json, and
// encodes with what comes out: ids are tokens, and what is decoded is UTF-8.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/unicode.h"
#include "check.h"
#include "text/tokenizer.h"

namespace mobe {
namespace {

constexpr std::string_view kTexts[] = {"", "Hello, world! 123\n\n  don't",
                                       "a\xcc\x81\xe4\xb8\xad\xff</s><s>"};

void LoadAndEncode(const std::filesystem::path& folder) {
  const Tokenizer tokenizer = Tokenizer::Load(folder);
  Check(!tokenizer.eos() || *tokenizer.eos() < tokenizer.vocab_size());
  for (const std::string_view text : kTexts) {
    const std::vector<int32_t> ids = tokenizer.Encode(text);
    for (const int32_t id : ids) Check(id >= 0 && id < tokenizer.vocab_size());
    const std::string decoded = tokenizer.Decode(ids);
    Check(ValidUtf8Length(decoded) == decoded.size());
  }
}

}  // namespace
}  // namespace mobe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::filesystem::path folder = [] {
    auto made = std::filesystem::temp_directory_path() /
                ("mobe-fuzz-" + std::to_string(::getpid()));
    std::filesystem::create_directories(made);
    std::ofstream(made / "tokenizer_config.json")
        << R"({"eos_token": "</s>", "bos_token": "<s>"})";
    return made;
  }();
  std::ofstream(folder / "tokenizer.json", std::ios::binary)
      .write(reinterpret_cast<const char*>(data),
             static_cast<std::streamsize>(size));
  mobe::AllowRefusal([] { mobe::LoadAndEncode(folder); });
  return 0;
}
