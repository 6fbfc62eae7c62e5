#include "base/text_file.h"

#include <unicode/ucnv.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/unicode.h"

namespace mobe {
namespace {

using namespace std::string_view_literals;

// What a file begins with that is no text.
struct Format {
  size_t offset;  // where the mark stands
  std::string_view mark;
  const char* name;
  const char* advice;
};

constexpr Format kFormats[] = {
    {0, "\x1f\x8b"sv, "gzip-compressed", "zcat gives its text"},
    {0, "\x28\xb5\x2f\xfd"sv, "compressed by zstd", "zstdcat gives its text"},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "compressed by xz", "xzcat gives its text"},
    {0, "BZh91AY&SY"sv, "compressed by bzip2", "bzcat gives its text"},
    {0, "\x04\x22\x4d\x18"sv, "compressed by lz4", "lz4cat gives its text"},
    {0, "PK\x03\x04"sv, "a ZIP archive (as .docx, .xlsx, .npz and .pt are)",
     "unzip it, or save it as plain text"},
    {0, "7z\xbc\xaf\x27\x1c"sv, "a 7-Zip archive", "unpack it"},
    {257, "ustar"sv, "a tar archive", "unpack it"},
    {0, "%PDF-"sv, "a PDF document", "pdftotext gives its text"},
    {0, "PAR1\x15"sv, "a Parquet table",
     "write its column of text into a plain file"},
    {0, "ARROW1\0"sv, "an Arrow table",
     "write its column of text into a plain file"},
    {5, "\0\0\0{"sv, "a safetensors file", "give a text"},
    {0, "GGUF\x03\0"sv, "a GGUF model", "give a text"},
    {0, "\x93NUMPY"sv, "a NumPy array", "give a text"},
    {0, "SQLite format 3\0"sv, "an SQLite database", "give a text"},
    {0,
     "\x7f"
     "ELF"sv,
     "a program", "give a text"},
    {0, "\x89PNG"sv, "an image", "give a text"},
    {0, "\xff\xd8\xff"sv, "an image", "give a text"},
    {0, "version https://git-lfs.github.com/spec/"sv,
     "a Git LFS pointer in the place of the file", "git lfs pull fetches it"},
};

void RefuseOtherFormats(std::string_view bytes, const std::string& source) {
  for (const Format& format : kFormats) {
    if (bytes.size() < format.offset ||
        !bytes.substr(format.offset).starts_with(format.mark)) {
      continue;
    }
    Fail(ErrorKind::kUserInput, "{}: expected a text, found {}: {}", source,
         format.name, format.advice);
  }
}

// An encoding of more than one byte each, by its name in ICU.
struct Encoding {
  const char* name;
  size_t mark_size;  // of the byte-order mark
};

// Whether nearly all bytes of the one parity are NUL, and none of the other.
bool IsHalfNul(std::string_view bytes, size_t parity) {
  size_t nul = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != '\0') continue;
    if (i % 2 != parity) return false;
    ++nul;
  }
  return bytes.size() >= 2 && bytes.size() % 2 == 0 &&
         nul >= bytes.size() / 2 - bytes.size() / 20;
}

std::optional<Encoding> WideEncoding(std::string_view bytes) {
  if (bytes.starts_with("\xff\xfe\0\0"sv)) return Encoding{"UTF-32LE", 4};
  if (bytes.starts_with("\0\0\xfe\xff"sv)) return Encoding{"UTF-32BE", 4};
  if (bytes.starts_with("\xff\xfe"sv)) return Encoding{"UTF-16LE", 2};
  if (bytes.starts_with("\xfe\xff"sv)) return Encoding{"UTF-16BE", 2};
  if (IsHalfNul(bytes, 1)) return Encoding{"UTF-16LE", 0};
  if (IsHalfNul(bytes, 0)) return Encoding{"UTF-16BE", 0};
  return std::nullopt;
}

// Strictly: ICU would put U+FFFD in the place of what is wrong.
std::string FromWide(std::string_view bytes, const Encoding& encoding,
                     const std::string& source) {
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<UConverter, decltype(&ucnv_close)> wide(
      ucnv_open(encoding.name, &status), ucnv_close);
  const std::unique_ptr<UConverter, decltype(&ucnv_close)> utf8(
      ucnv_open("UTF-8", &status), ucnv_close);
  ucnv_setToUCallBack(wide.get(), UCNV_TO_U_CALLBACK_STOP, nullptr, nullptr,
                      nullptr, &status);
  const char* from = bytes.data() + encoding.mark_size;
  const char* const end = bytes.data() + bytes.size();
  std::string text;
  std::array<char16_t, 1024> pivot;
  char16_t* pivot_read = pivot.data();
  char16_t* pivot_write = pivot.data();
  std::array<char, 4096> part;
  bool first = true;
  do {
    if (status == U_BUFFER_OVERFLOW_ERROR) status = U_ZERO_ERROR;
    char* to = part.data();
    ucnv_convertEx(utf8.get(), wide.get(), &to, part.data() + part.size(),
                   &from, end, pivot.data(), &pivot_read, &pivot_write,
                   pivot.data() + pivot.size(), static_cast<UBool>(first),
                   /*flush=*/true, &status);
    first = false;
    text.append(part.data(), to);
  } while (status == U_BUFFER_OVERFLOW_ERROR);
  if (U_FAILURE(status)) {
    Fail(ErrorKind::kUserInput,
         "{}: a text in {} that breaks off or is damaged before byte {}: "
         "expected whole characters",
         source, encoding.name, from - bytes.data());
  }
  return text;
}

void CheckUtf8(std::string_view text, const std::string& source) {
  const size_t nul = text.find('\0');
  if (nul != std::string_view::npos) {
    Fail(ErrorKind::kUserInput,
         "{}: expected a text, found NUL at byte {}: binary data, a damaged "
         "file "
         "or UTF-16 without a byte-order mark",
         source, nul);
  }
  const size_t at = ValidUtf8Length(text);
  if (at == text.size()) return;
  const auto line = 1 + std::ranges::count(text.substr(0, at), '\n');
  if (CompleteUtf8Length(text) <= at) {
    Fail(ErrorKind::kUserInput,
         "{}: expected a text in UTF-8, but it ends within a character, at "
         "byte {}: cut it between characters",
         source, at);
  }
  Fail(ErrorKind::kUserInput,
       "{}: expected a text in UTF-8, found the byte {:#04x} at byte {}, line "
       "{}: if it is a text in another encoding, \"iconv -f ISO-8859-1 -t "
       "UTF-8\" or the like converts it",
       source, static_cast<unsigned char>(text[at]), at, line);
}

}  // namespace

std::string ReadTextFile(const std::filesystem::path& path,
                         uint64_t max_bytes) {
  return DecodeText(ReadInput(path, max_bytes), path.string());
}

std::string DecodeText(std::string bytes, const std::string& source) {
  RefuseOtherFormats(bytes, source);
  if (const auto encoding = WideEncoding(bytes)) {
    bytes = FromWide(bytes, *encoding, source);
  } else if (bytes.starts_with("\xef\xbb\xbf")) {
    bytes.erase(0, 3);
  }
  CheckUtf8(bytes, source);
  return bytes;
}

std::vector<std::string> LinesOf(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
  }
  return lines;
}

bool IsBlankLine(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos;
}

}  // namespace mobe
