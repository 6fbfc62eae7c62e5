#include "io/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "base/json.h"
#include "base/testing.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;

std::string FileText(std::string_view header, std::string_view data = "") {
  const uint64_t size = header.size();
  std::string text(sizeof(size), '\0');
  std::memcpy(text.data(), &size, sizeof(size));
  return text.append(header).append(data);
}

SafetensorsHeader Parse(const std::string& file) {
  return ParseSafetensors(std::as_bytes(std::span(file)), "x.safetensors");
}

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(ParseSafetensorsTest, TensorsComeInTheOrderOfTheirData) {
  const std::string file =
      FileText(R"({"b":{"dtype":"U8","shape":[3],"data_offsets":[2,5]},)"
               R"("__metadata__":{"format":"pt","":"x"},)"
               R"("e":{"data_offsets":[2,2],"shape":[4,0],"dtype":"F64"},)"
               R"("a":{"shape":[],"dtype":"BF16","data_offsets":[0,2]}})"
               "\n\t ",
               "aabbb");
  const SafetensorsHeader header = Parse(file);
  ASSERT_EQ(header.tensors.size(), 3u);
  EXPECT_EQ(header.tensors[0].name, "a");
  EXPECT_EQ(header.tensors[0].dtype, DType::kBF16);
  EXPECT_TRUE(header.tensors[0].shape.empty());
  EXPECT_EQ(Text(header.tensors[0].data), "aa");
  EXPECT_EQ(header.tensors[1].name, "e");
  EXPECT_EQ(header.tensors[1].shape, (std::vector<int64_t>{4, 0}));
  EXPECT_TRUE(header.tensors[1].data.empty());
  EXPECT_EQ(header.tensors[2].name, "b");
  EXPECT_EQ(Text(header.tensors[2].data), "bbb");
  EXPECT_EQ(header.metadata, (Metadata{{"format", "pt"}, {"", "x"}}));
}

TEST(ParseSafetensorsTest, NothingButAHeader) {
  EXPECT_TRUE(Parse(FileText("{}")).tensors.empty());
  EXPECT_TRUE(Parse(FileText(R"({"__metadata__":{}})")).metadata.empty());
}

TEST(ParseSafetensorsTest, EightDimensions) {
  const std::string file = FileText(
      R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
      "a");
  EXPECT_EQ(Parse(file).tensors[0].shape.size(), 8u);
}

// Cases that tests/data/hostile does not have. The tensor is "a", its entry
// the text between the braces.
TEST(ParseSafetensorsTest, RejectsEntries) {
  struct Case {
    const char* entry;
    const char* message;
  };
  for (const Case& c : std::initializer_list<Case>{
           {R"("dtype":"U8","shape":[1])", "\"data_offsets\" is missing"},
           {R"("dtype":"U8","data_offsets":[0,1])", "\"shape\" is missing"},
           {R"("dtype":"U8","dtype":"U8")", "\"dtype\" occurs twice"},
           {R"("strides":[1])", "unknown field \"strides\""},
           {R"("dtype":8)", "\"dtype\" is 8, expected a string"},
           {R"("dtype":null)", "\"dtype\" is null"},
           {R"("dtype":"u8")", "unknown dtype \"u8\""},
           {R"("shape":1)", "\"shape\" is 1, expected a list"},
           {R"("shape":{})", "\"shape\" is an object"},
           {R"("shape":[[1]])", "a dimension in \"shape\" is a list"},
           {R"("shape":[true])", "a dimension in \"shape\" is true"},
           {R"("shape":[1.0])", "a dimension in \"shape\" is 1.0"},
           {R"("shape":[1e0])", "a dimension in \"shape\" is 1e0"},
           {R"("shape":[9223372036854775808])",
            "is 9223372036854775808, expected an integer from 0 to 2^63 - 1"},
           {R"("shape":[99999999999999999999])", "is 99999999999999999999,"},
           {R"("shape":[1,1,1,1,1,1,1,1,1])", "more than 8 dimensions"},
           {R"("data_offsets":[0])", "\"data_offsets\" has 1 numbers"},
           {R"("data_offsets":[])", "\"data_offsets\" has 0 numbers"},
           {R"("data_offsets":[0,18446744073709551616])",
            "a number in \"data_offsets\" is 18446744073709551616"},
           {R"("data_offsets":"01")", "\"data_offsets\" is \"01\""},
           // A zero does not excuse an overflow before it.
           {R"("dtype":"U8","shape":[4294967296,4294967296,0],)"
            R"("data_offsets":[0,0])",
            "overflows 64 bits"},
       }) {
    const std::string file =
        FileText(fmt::format("{{\"a\":{{{}}}}}", c.entry), "a");
    ExpectError(ErrorKind::kCorruptFile, c.message, [&] { Parse(file); });
    ExpectError(ErrorKind::kCorruptFile,
                "x.safetensors: tensor \"a\": ", [&] { Parse(file); });
  }
}

TEST(ParseSafetensorsTest, RejectsHeaders) {
  struct Case {
    std::string_view header;
    const char* message;
  };
  for (const Case& c : std::initializer_list<Case>{
           {" {}", "does not begin with '{'"},
           {"{}x", "not valid JSON"},
           {"{}{}", "not valid JSON"},
           {"{}\0"sv, "NUL"},
           {"{\"a\0\":1}"sv, "not valid JSON"},
           {"{\"a\":1e999}", "not valid JSON"},
           {R"({"\ud800":1})", "not valid JSON"},
           {R"({"a":[]})", "tensor \"a\": its entry is a list"},
           {R"({"a\n":0})", "tensor \"a\\n\": its entry is 0"},
           {R"({"__metadata__":null})", "\"__metadata__\" is null"},
           {R"({"__metadata__":{},"__metadata__":{}})", "occurs twice"},
           {R"({"__metadata__":{"k":"1","k":"1"}})", "the key \"k\" twice"},
           {R"({"__metadata__":{"k":1}})", "a value of \"__metadata__\" is 1"},
           {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
            R"("b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
            R"("a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
            "tensor \"a\": occurs twice"},
       }) {
    ExpectError(ErrorKind::kCorruptFile, c.message,
                [&] { Parse(FileText(c.header)); });
  }
  ExpectError(ErrorKind::kCorruptFile,
              "tensor \"a\": its data leaves a hole after the header", [] {
                Parse(FileText(R"({"a":{"dtype":"U8","shape":[1],)"
                               R"("data_offsets":[1,2]}})",
                               "xa"));
              });
}

TEST(ParseSafetensorsTest, ForeignDTypesAreUnsupportedNotCorrupt) {
  ExpectError(
      ErrorKind::kUnsupported,
      "x.safetensors: tensor \"a\": unsupported dtype \"F4\"", [] {
        Parse(FileText(
            R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}})", "a"));
      });
}

TEST(TensorDeclTest, SizesAreChecked) {
  const TensorDecl decl{"a", DType::kF32, {2, 3}};
  EXPECT_EQ(decl.elements(), 6);
  EXPECT_EQ(decl.bytes(), 24);
  EXPECT_EQ((TensorDecl{"a", DType::kF32, {}}.bytes()), 4);
  const TensorDecl large{"a", DType::kF32, {int64_t{1} << 61}};
  EXPECT_EQ(large.elements(), int64_t{1} << 61);
  ExpectError(ErrorKind::kUnsupported, "overflows", [&] { large.bytes(); });
  ExpectError(ErrorKind::kUnsupported, "overflows", [] {
    TensorDecl{"a", DType::kU8, {int64_t{1} << 62, 2}}.elements();
  });
}

TEST(SafetensorsWriterTest, RoundTrip) {
  const TempFolder folder;
  const fs::path path = folder / "x.safetensors";
  const std::string odd_name = "odd \"name\"\n\u00fc";
  {
    SafetensorsWriter writer(path,
                             {{"empty first", DType::kF32, {0}},
                              {"z", DType::kU8, {3}},
                              {"scalar", DType::kF32, {}},
                              {"empty", DType::kBF16, {2, 0, 2}},
                              {odd_name, DType::kBF16, {2, 2}},
                              {"empty last", DType::kI64, {0}}},
                             {{"format", "pt"}});
    writer.Append("z", Bytes("zz"));
    writer.Append("z", Bytes(""));
    writer.Append("z", Bytes("Z"));
    writer.Append("scalar", Bytes("4444"));
    writer.Append("empty", Bytes(""));
    writer.Append(odd_name, Bytes("1"));
    writer.Append(odd_name, Bytes("2345678"));
    EXPECT_FALSE(fs::exists(path));
    writer.Commit();
  }
  SafetensorsFile moved(path);
  const SafetensorsFile file(std::move(moved));
  EXPECT_EQ(file.metadata(), (Metadata{{"format", "pt"}}));
  ASSERT_EQ(file.tensors().size(), 6u);
  EXPECT_EQ(Text(file.At("z").data), "zzZ");
  EXPECT_EQ(Text(file.At("scalar").data), "4444");
  EXPECT_EQ(Text(file.At(odd_name).data), "12345678");
  EXPECT_EQ(file.At(odd_name).shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(file.At("empty").shape, (std::vector<int64_t>{2, 0, 2}));
  // The data section is aligned; the mapping is by pages.
  EXPECT_EQ((file.At("z").data.data() - file.file().bytes().data()) % 8, 0);
  EXPECT_EQ(file.Find("none"), nullptr);
  ExpectError(ErrorKind::kMissing, "x.safetensors: tensor \"none\"",
              [&] { file.At("none"); });
}

TEST(SafetensorsWriterTest, NoTensors) {
  const TempFolder folder;
  SafetensorsWriter(folder / "x.safetensors", {}).Commit();
  EXPECT_EQ(Text(MappedFile(folder / "x.safetensors").bytes()),
            "\x08\0\0\0\0\0\0\0{}      "sv);
}

TEST(SafetensorsWriterTest, WrongUseIsNoticedAndLeavesNothing) {
  const TempFolder folder;
  const fs::path path = folder / "x.safetensors";
  const std::vector<TensorDecl> tensors = {{"a", DType::kU8, {2}},
                                           {"b", DType::kU8, {2}}};
  const auto expect = [&](std::string_view message, auto&& use) {
    ExpectError(ErrorKind::kInternal, message, [&] {
      SafetensorsWriter writer(path, tensors);
      use(writer);
    });
    EXPECT_TRUE(fs::is_empty(folder.path()));
  };
  expect("tensor \"b\" written out of turn, expected \"a\"",
         [](SafetensorsWriter& w) { w.Append("b", Bytes("bb")); });
  expect("tensor \"a\": 3 bytes written, 2 are left",
         [](SafetensorsWriter& w) { w.Append("a", Bytes("aab")); });
  expect("tensor \"a\" written out of turn", [](SafetensorsWriter& w) {
    w.Append("a", Bytes("aa"));
    w.Append("a", Bytes("a"));
  });
  expect("tensor \"b\" is not complete", [](SafetensorsWriter& w) {
    w.Append("a", Bytes("aa"));
    w.Append("b", Bytes("b"));
    w.Commit();
  });
  expect("expected no more", [](SafetensorsWriter& w) {
    w.Append("a", Bytes("aa"));
    w.Append("b", Bytes("bb"));
    w.Append("c", Bytes("c"));
  });
  ExpectError(ErrorKind::kInternal, "tensor \"a\": declared twice", [&] {
    SafetensorsWriter(path, {tensors[0], tensors[0]});
  });
  ExpectError(ErrorKind::kUnsupported, "overflows", [&] {
    const TensorDecl huge{
        "a", DType::kU8, {std::numeric_limits<int64_t>::max()}};
    SafetensorsWriter(path, {huge, {"b", DType::kU8, {1}}});
  });
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace mobe
