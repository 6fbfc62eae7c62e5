#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"
#include "text/fields.h"
#include "text/stream_decoder.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

const Tokenizer& Mini() {
  static const Tokenizer kTokenizer =
      Tokenizer::Load(SourcePath("models/mini-qwen3-moe"));
  return kTokenizer;
}

// "ab" over the bytes a, b and space.
Json SmallJson() {
  return Json::parse(R"({
    "version": "1.0",
    "added_tokens": [{"id": 4, "content": "<s>", "single_word": false,
      "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": " ?\\S+"}, "behavior": "Isolated",
       "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
       "use_regex": false}]},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3},
              "merges": ["a b"]}
  })");
}

class TokenizerFileTest : public testing::Test {
 protected:
  Tokenizer LoadText(const std::string& text) const {
    // Without the fsync of AtomicFile, which would make the test slow.
    std::ofstream(path_, std::ios::binary) << text;
    return Tokenizer::Load(path_);
  }
  // Loads SmallJson changed by `change` and expects an error that names `part`.
  void ExpectError(ErrorKind kind, const std::string& part,
                   const std::function<void(Json&)>& change) const {
    Json json = SmallJson();
    change(json);
    try {
      LoadText(json.dump());
      ADD_FAILURE() << "no error for " << json.dump();
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), kind) << e.what();
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos)
          << e.what();
    }
  }
  void TearDown() override { fs::remove(path_); }

  fs::path path_ =
      fs::path(testing::TempDir()) /
      (std::string("mobe_tokenizer_") +
       testing::UnitTest::GetInstance()->current_test_info()->name());
};

// A link to nothing is not the absence of the file.
TEST(TokenizerTest, LinksToNothing) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    TempFolder folder;
    std::filesystem::copy(SourcePath("models/mini-qwen3-moe/tokenizer.json"),
                          folder / "tokenizer.json");
    std::filesystem::remove(folder / name);
    std::filesystem::create_symlink("nothing", folder / name);
    ExpectError(ErrorKind::kMissing, name,
                [&] { Tokenizer::Load(folder.path()); });
  }
}

TEST(TokenizerTest, KnowsItsTokens) {
  EXPECT_EQ(Mini().vocab_size(), 8192);
  EXPECT_EQ(Mini().TokenId("<|im_end|>"), 8191);
  EXPECT_EQ(Mini().TokenId("no such token"), std::nullopt);
  const auto the = Mini().TokenId("Ġthe");
  ASSERT_TRUE(the.has_value());
  EXPECT_EQ(Mini().TokenBytes(*the), " the");
  EXPECT_FALSE(Mini().IsSpecial(*the));
  EXPECT_TRUE(Mini().IsSpecial(8191));
  EXPECT_FALSE(Mini().IsSpecial(-1));
  EXPECT_FALSE(Mini().IsSpecial(8192));
}

TEST(TokenizerTest, IdsThatNoTokenHasAddNothing) {
  EXPECT_EQ(Mini().TokenBytes(-1), "");
  EXPECT_EQ(Mini().TokenBytes(1 << 30), "");
  EXPECT_EQ(Mini().Decode(std::vector<int32_t>{-5, 8191, 1 << 30}),
            "<|im_end|>");
}

TEST(TokenizerTest, IllFormedTextIsReadAsReplacementCharacters) {
  // A cut character, a lone byte, a surrogate, an overlong form, beyond
  // Unicode.
  EXPECT_EQ(
      Mini().Encode("a\xe4\xb8 \xff!\xed\xa0\x80\xc0\xaf\xf5"),
      Mini().Encode("a\ufffd \ufffd!\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd"));
  EXPECT_EQ(Mini().Decode(Mini().Encode("\xf0\x9f\x98")), "\ufffd");
}

TEST(StreamDecoderTest, HoldsBackUnfinishedCharacters) {
  const auto ids = Mini().Encode("\u0f3a");  // one token for each byte
  ASSERT_EQ(ids.size(), 3u);
  StreamDecoder decoder(Mini());
  EXPECT_EQ(decoder.Push(ids[0]), "");
  EXPECT_EQ(decoder.Push(ids[1]), "");
  EXPECT_EQ(decoder.Push(ids[2]), "\u0f3a");
  decoder.Push(ids[0]);
  // "a" shows that the character does not go on.
  EXPECT_EQ(decoder.Push(Mini().Encode("a")[0]), "\ufffda");
  decoder.Push(ids[0]);
  EXPECT_EQ(decoder.Finish(), "\ufffd");
  EXPECT_EQ(decoder.Finish(), "");
}

TEST_F(TokenizerFileTest, SmallFileIsRead) {
  const Tokenizer tokenizer = LoadText(SmallJson().dump());
  EXPECT_EQ(tokenizer.Encode("ab<s> ba?"),
            (std::vector<int32_t>{3, 4, 2, 1, 0}));
}

TEST_F(TokenizerFileTest, FolderSaysWhatIsAroundATextAndWhereTheFileIs) {
  fs::create_directory(path_);
  const auto write = [&](const char* name, const std::string& text) {
    std::ofstream(path_ / name, std::ios::binary) << text;
  };
  const auto expect_missing = [&](const char* name) {
    try {
      Tokenizer::Load(path_);
      ADD_FAILURE() << "no error without " << name;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kMissing) << e.what();
      EXPECT_NE(std::string(e.what()).find(name), std::string::npos)
          << e.what();
    }
  };
  expect_missing("tokenizer.json");
  write("tiktoken.model",
        ReadSmallFile(SourcePath("tests/data/text/kimi/tiktoken.model")));
  EXPECT_EQ(Tokenizer::FileIn(path_), path_ / "tiktoken.model");
  expect_missing("tokenizer_config.json");
  write("tokenizer.json", SmallJson().dump());
  EXPECT_EQ(Tokenizer::FileIn(path_), path_ / "tokenizer.json");
  EXPECT_EQ(Tokenizer::Load(path_).affixes().before, std::vector<int32_t>{4});
  write("tokenizer_config.json", R"({"add_bos_token": false})");
  EXPECT_TRUE(Tokenizer::Load(path_).affixes().empty());
  fs::remove_all(path_);
}

TEST_F(TokenizerFileTest, MissingAndTruncatedFiles) {
  try {
    Tokenizer::Load(path_ / "none");
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kMissing);
  }
  const std::string text = SmallJson().dump();
  for (size_t size = 0; size < text.size(); size += 7) {
    EXPECT_THROW(LoadText(text.substr(0, size)), Error) << size;
  }
}

TEST_F(TokenizerFileTest, EveryMemberMayHaveAnyType) {
  // Replaces each value in turn; whatever comes, it is an Error or a tokenizer.
  const Json original = SmallJson();
  const Json flat = original.flatten();
  std::set<std::string> done;
  for (const auto& [pointer, unused] : flat.items()) {
    for (auto where = Json::json_pointer(pointer); !where.empty();
         where.pop_back()) {
      if (!done.insert(where.to_string()).second) break;
      for (const char* value : {"null", "-1", "1e30", "\"x\"", "[]", "{}",
                                "true", "[[[]]]", "{\"type\":\"Sequence\"}"}) {
        Json json = original;
        json[where] = Json::parse(value);
        try {
          LoadText(json.dump()).Encode("ab <s>");
        } catch (const Error& e) {
          EXPECT_NE(e.kind(), ErrorKind::kInternal) << e.what();
        }
      }
    }
  }
}

TEST_F(TokenizerFileTest, HostileIds) {
  for (const Json& id : {Json(-1), Json(1'000'000'000'000), Json(1.5),
                         Json("1"), Json(kMaxTokenId + 1)}) {
    ExpectError(ErrorKind::kCorruptFile, "id of token \"b\"",
                [&](Json& json) { json["model"]["vocab"]["b"] = id; });
    ExpectError(ErrorKind::kCorruptFile, "id of token \"<s>\"",
                [&](Json& json) { json["added_tokens"][0]["id"] = id; });
  }
  ExpectError(ErrorKind::kCorruptFile, "two tokens have id 0",
              [](Json& json) { json["model"]["vocab"]["b"] = 0; });
  // With 4 the vocabulary has a gap, and the added token falls on an id in use.
  ExpectError(ErrorKind::kCorruptFile, "two tokens have id 4",
              [](Json& json) { json["model"]["vocab"]["b"] = 4; });
  ExpectError(ErrorKind::kCorruptFile, "no token has id 5", [](Json& json) {
    json["post_processor"]["special_tokens"]["<s>"]["ids"][0] = 5;
  });
  ExpectError(ErrorKind::kUnsupported, "has id 9; only 4",
              [](Json& json) { json["added_tokens"][0]["id"] = 9; });
  ExpectError(ErrorKind::kUnsupported, "too long", [](Json& json) {
    json["added_tokens"][0]["content"] = std::string(300, 's');
  });
  ExpectError(ErrorKind::kCorruptFile, "given twice", [](Json& json) {
    json["added_tokens"].push_back(json["added_tokens"][0]);
  });
}

TEST_F(TokenizerFileTest, HostileMerges) {
  for (const char* merge : {"\"a\"", "\"a b c\"", "[\"a\"]", "[1, 2]", "{}"}) {
    ExpectError(ErrorKind::kCorruptFile, "merge", [&](Json& json) {
      json["model"]["merges"] = {Json::parse(merge)};
    });
  }
  ExpectError(ErrorKind::kCorruptFile, "\"zz\"",
              [](Json& json) { json["model"]["merges"] = {"a zz"}; });
  ExpectError(ErrorKind::kCorruptFile, "\"ba\"",
              [](Json& json) { json["model"]["merges"] = {"b a"}; });
}

TEST_F(TokenizerFileTest, WhatIsNotSupportedIsNamed) {
  constexpr auto kUnsupported = ErrorKind::kUnsupported;
  ExpectError(kUnsupported, "\"Unigram\"",
              [](Json& json) { json["model"]["type"] = "Unigram"; });
  ExpectError(kUnsupported, "\"unk_token\": \"<unk>\"",
              [](Json& json) { json["model"]["unk_token"] = "<unk>"; });
  ExpectError(kUnsupported, "\"byte_fallback\": true",
              [](Json& json) { json["model"]["byte_fallback"] = true; });
  ExpectError(kUnsupported, "\"dropout\": 0.1",
              [](Json& json) { json["model"]["dropout"] = 0.1; });
  ExpectError(kUnsupported, "\"##\"", [](Json& json) {
    json["model"]["continuing_subword_prefix"] = "##";
  });
  ExpectError(kUnsupported, "\"Lowercase\"",
              [](Json& json) { json["normalizer"]["type"] = "Lowercase"; });
  ExpectError(kUnsupported, "\"Metaspace\"",
              [](Json& json) { json["pre_tokenizer"]["type"] = "Metaspace"; });
  ExpectError(kUnsupported, "no ByteLevel", [](Json& json) {
    json["pre_tokenizer"]["pretokenizers"].erase(1);
  });
  ExpectError(kUnsupported, "\"Fuse\"",
              [](Json& json) { json["decoder"]["type"] = "Fuse"; });
  ExpectError(kUnsupported, "\"2.0\"",
              [](Json& json) { json["version"] = "2.0"; });
  ExpectError(kUnsupported, "behavior \"Sideways\"", [](Json& json) {
    json["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Sideways";
  });
}

TEST_F(TokenizerFileTest, CatastrophicPatternIsAnError) {
  Json json = SmallJson();
  json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a+a+)+b";
  const Tokenizer tokenizer = LoadText(json.dump());
  EXPECT_NO_THROW(tokenizer.Encode("aab"));
  EXPECT_THROW(tokenizer.Encode(std::string(100, 'a')), Error);
}

}  // namespace
}  // namespace mobe
