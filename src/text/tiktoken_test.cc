#include "text/tiktoken.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/testing.h"
#include "text/bpe.h"

namespace mobe {
namespace {

using Lines = std::vector<std::string>;

// 860 lines: the 256 bytes, in order, and longer tokens.
Lines Good() {
  const std::string file =
      ReadSmallFile(SourcePath("tests/data/text/kimi/tiktoken.model"));
  Lines lines;
  for (size_t begin = 0; begin < file.size();) {
    const size_t end = file.find('\n', begin);
    lines.push_back(file.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

std::vector<std::string> Read(const Lines& lines, const char* end = "\n") {
  std::string file;
  for (const std::string& line : lines) file += line + end;
  return ReadTiktoken(file, "test");
}

void ExpectError(const std::string& part,
                 const std::function<void(Lines&)>& change) {
  Lines lines = Good();
  change(lines);
  try {
    Read(lines);
    ADD_FAILURE() << "no error with " << part;
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kCorruptFile) << e.what();
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

TEST(TiktokenTest, ReadsTokensByRank) {
  const std::vector<std::string> tokens = Read(Good());
  ASSERT_EQ(tokens.size(), Good().size());
  EXPECT_EQ(tokens[0], std::string(1, '\0'));
  EXPECT_EQ(tokens[255], "\xff");
  // The order of lines, the kind of line end and empty lines say nothing.
  Lines lines = Good();
  std::swap(lines.front(), lines.back());
  lines.insert(lines.begin() + 5, "");
  EXPECT_EQ(Read(lines, "\r\n"), tokens);
}

TEST(TiktokenTest, HostileFiles) {
  for (const char* line :
       {"YWJj", " ", "YWJj 1 2", "YWJj\t900", "900", "YWJj -1", "YWJj 1.0",
        "YWJj +9", "YWJj  860", "YWJj 99999999999999999999", "YWJj 2097152"}) {
    ExpectError("line 861: ", [&](Lines& lines) { lines.push_back(line); });
  }
  for (const char* token : {"YWJ", "YW=j", "Y===", "====", "YWJj!A==", "YWK=",
                            "YX==", "", "YWJj\n"}) {
    ExpectError("", [&](Lines& lines) {
      lines.push_back(std::string(token) + " 860");
    });
  }
  ExpectError("line 3: the token was there before",
              [](Lines& lines) { lines[2] = lines[1]; });
  ExpectError("rank 7 was there before",
              [](Lines& lines) { lines.push_back("cXF6eg== 7"); });
  ExpectError("no token has rank 3, though one has rank 859",
              [](Lines& lines) { lines.erase(lines.begin() + 3); });
  ExpectError("no token has rank 860, though one has rank 2097151",
              [](Lines& lines) { lines.push_back("cXF6eg== 2097151"); });
  ExpectError("byte 0xff is no token",
              [](Lines& lines) { lines[255] = "cXF6eg== 255"; });
  ExpectError("byte 0x00 is no token", [](Lines& lines) { lines.clear(); });
  ExpectError("the token has 513 bytes", [](Lines& lines) {
    std::string digits;
    for (int i = 0; i < 171; ++i) digits += "cXF6";
    lines.push_back(digits + " 860");
  });
}

// Merges as the definition has them: again and again the leftmost of the pairs
// whose bytes together are the token of lowest rank.
std::vector<int32_t> ByDefinition(const std::vector<std::string>& tokens,
                                  const std::string& piece) {
  const auto rank = [&](const std::string& bytes) {
    return static_cast<size_t>(std::ranges::find(tokens, bytes) -
                               tokens.begin());
  };
  std::vector<std::string> parts;
  for (const char c : piece) parts.emplace_back(1, c);
  if (rank(piece) < tokens.size()) parts = {piece};
  for (;;) {
    size_t best = tokens.size();
    size_t place = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const size_t merged = rank(parts[i] + parts[i + 1]);
      if (merged < best) {
        best = merged;
        place = i;
      }
    }
    if (best == tokens.size()) break;
    parts[place] += parts[place + 1];
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(place) + 1);
  }
  std::vector<int32_t> ids;
  ids.reserve(parts.size());
  for (const std::string& part : parts) {
    ids.push_back(static_cast<int32_t>(rank(part)));
  }
  return ids;
}

TEST(TiktokenTest, MergesByRankOfTheResult) {
  // "bc" comes before "ab", and "abcd" can be cut in three ways.
  std::vector<std::string> tokens = {"bc", "ab",  "cd",  "abcd", "bcd",
                                     "aa", "aaa", "aab", "dd",   "abab"};
  for (int byte = 255; byte >= 0; --byte) {
    tokens.insert(tokens.begin(), std::string(1, static_cast<char>(byte)));
  }
  const Bpe bpe(tokens);
  Bpe::Scratch scratch;
  for (int number = 0; number < 1 << 14; ++number) {
    std::string piece;
    for (int i = 0; i < 7; ++i) {
      piece.push_back(static_cast<char>('a' + (number >> 2 * i & 3)));
    }
    piece.resize(static_cast<size_t>(number % 7 + 1));
    std::vector<int32_t> ids;
    bpe.Encode(piece, scratch, ids);
    ASSERT_EQ(ids, ByDefinition(tokens, piece)) << piece;
  }
}

}  // namespace
}  // namespace mobe
