// The hostile safetensors files of tests/data/hostile. Its checkpoints, and the
// count of both, are the business of compress/hostile_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "base/counted_memory.h"
#include "base/error.h"
#include "base/json.h"
#include "base/testing.h"
#include "io/safetensors.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const fs::path kHostile = SourcePath("tests/data/hostile");

// The most memory that `run` holds at any time beyond what there was before; 0
// where nothing counts it.
template <class Run>
size_t PeakBytes(const Run& run) {
  CountedMemory* const memory = ThreadMemory();
  if (memory == nullptr) {
    run();
    return 0;
  }
  const size_t before = memory->peak = memory->live;
  run();
  return memory->peak - before;
}

Json Entries() {
  return ParseJson(ReadSmallFile(kHostile / "manifest.json"), "manifest.json")
      .at("entries");
}

// What opening says: nothing, or the error's text.
template <class Open>
std::string Message(const Open& open) {
  try {
    open();
    return "";
  } catch (const Error& e) {
    EXPECT_NE(e.kind(), ErrorKind::kInternal) << e.what();
    return e.what();
  }
}

// By file: what the message says after the file's name.
const std::map<std::string, std::string> kFileMessages = {
    {"ok_minimal", ""},
    {"ok_scalar_and_empty", ""},
    {"ok_header_padded_spaces", ""},
    {"zero_length", "0 bytes long, too short"},
    {"short_7_bytes", "7 bytes long, too short"},
    {"header_len_huge",
     "a header of 9223.37 PB, more than the 100,000,000 bytes"},
    {"header_len_over_limit",
     "a header of 100.00 MB, more than the 100,000,000 bytes"},
    {"header_len_past_eof", "follow: cut off; get the file again"},
    {"header_len_zero", "the header does not begin with '{'"},
    {"header_not_json", "the header is not valid JSON"},
    {"header_not_object", "the header does not begin with '{'"},
    {"header_non_utf8", "ill-formed UTF-8"},
    {"truncated_data", "cut off: it has 9 bytes of data, by its header 16 are"},
    {"trailing_data", "3 bytes of data belong to no tensor"},
    {"overlap", R"(tensor "b": its data overlaps that of "a")"},
    {"hole", R"(tensor "b": its data leaves a hole after "a")"},
    {"offsets_reversed", R"(tensor "a": "data_offsets" [16, 0] end before)"},
    {"offset_negative", R"(tensor "a": a number in "data_offsets" is -16)"},
    {"offset_beyond_file", "by its header 1099511627792 are expected"},
    {"offset_u64_wrap", R"(tensor "a": "data_offsets")"},
    {"shape_overflow", R"(tensor "a": the size of shape)"},
    {"shape_overflow_to_match", R"(tensor "a": the size of shape)"},
    {"shape_size_mismatch", R"(tensor "a": "data_offsets" [0, 16] hold 16)"},
    {"dim_negative", R"(tensor "a": a dimension in "shape" is -2)"},
    {"dim_fraction", R"(tensor "a": a dimension in "shape" is 2.5)"},
    {"dim_string", R"(tensor "a": a dimension in "shape" is "2")"},
    {"dtype_unknown", R"(tensor "a": unknown dtype "F13")"},
    {"dtype_missing", R"(tensor "a": "dtype" is missing)"},
    {"offsets_three", R"(tensor "a": "data_offsets" has more than two)"},
    {"duplicate_key", R"(tensor "a": occurs twice)"},
    {"metadata_not_strings", R"(a value of "__metadata__" is an object)"},
    {"header_deep_nesting", "nested deeper than 64 levels"},
    {"many_dims", R"(tensor "a": "shape" has more than 8 dimensions)"},
};

TEST(HostileTest, Files) {
  size_t covered = 0;
  for (const Json& entry : Entries()) {
    if (entry.at("kind") != "safetensors") continue;
    const fs::path path = kHostile / entry.at("path").get<std::string>();
    SCOPED_TRACE(path.filename());
    const std::string& expected = kFileMessages.at(path.stem());
    // many_dims may load or not; here it does not.
    EXPECT_EQ(entry.at("expect") == "ok", expected.empty());
    std::string message;
    const size_t peak = PeakBytes(
        [&] { message = Message([&] { const SafetensorsFile file(path); }); });
    // Twice the file, and the constant part: messages, the parser's tables.
    EXPECT_LE(peak, 2 * fs::file_size(path) + 16'384);
    if (expected.empty()) {
      EXPECT_EQ(message, "");
    } else {
      EXPECT_THAT(message, HasSubstr(path.string() + ": "));
      EXPECT_THAT(message, HasSubstr(expected));
      EXPECT_LT(message.size(), 500u);
    }
    ++covered;
  }
  EXPECT_EQ(covered, kFileMessages.size());
  std::cout << covered << " files covered\n";
}

// A file of `header` and no data.
std::vector<std::byte> FileOf(const std::string& header) {
  const uint64_t size = header.size();
  std::string text(reinterpret_cast<const char*>(&size), sizeof(size));
  text += header;
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// Headers that ask for the most memory by the byte: nothing but shortest
// tensors, one endless string, endless lists.
TEST(HostileTest, MemoryIsInProportionToTheHeader) {
  std::string tensors = "{";
  for (int i = 0; i < 20'000; ++i) {
    tensors += fmt::format(
        R"("{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},)", i);
  }
  tensors.back() = '}';
  std::string metadata = R"({"__metadata__":{)";
  for (int i = 0; i < 100'000; ++i) metadata += fmt::format(R"("{}":"",)", i);
  metadata.back() = '}';
  const std::string text(1'000'000, 'x');
  std::string list;
  for (int i = 0; i < 500'000; ++i) list += "[],";
  for (const std::string& header :
       {tensors, metadata + "}", "{\"" + text, "{\"__metadata__\":\"" + text,
        "{\"" + text + "\":0", "{\"a\":{\"shape\":[" + list,
        "{\"a\":" + std::string(1'000'000, '1')}) {
    const auto file = FileOf(header);
    SCOPED_TRACE(header.substr(0, 40));
    const size_t peak = PeakBytes(
        [&] { Message([&] { ParseSafetensors(file, "x.safetensors"); }); });
    EXPECT_LE(peak, 12 * file.size());
  }
}

}  // namespace
}  // namespace mobe
