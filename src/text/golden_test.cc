// Ids of Hugging Face's library: those that scripts/make_tokenizer_goldens.py
// has written, and, where ../shared is, of published tokenizers.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<int32_t>;

Json ReadJson(const fs::path& path) {
  return ParseJson(ReadSmallFile(path), path.string());
}

std::string StreamText(const Tokenizer& tokenizer, const Ids& ids,
                       bool skip_special) {
  StreamDecoder decoder(tokenizer, skip_special);
  std::string text;
  for (const int32_t id : ids) text += decoder.Push(id);
  return text + decoder.Finish();
}

Tokenizer LoadVariant(const Json& variant) {
  Json json = ReadJson(MOBE_MODELS "/mini-qwen3-moe/tokenizer.json");
  for (const auto& [key, value] : variant["patch"].items()) {
    if (key == "model") {
      json["model"].update(value);
    } else if (key == "first_merges") {
      auto& merges = json["model"]["merges"];
      merges.erase(merges.begin() + value.get<int>(), merges.end());
    } else {
      json[key] = value;
    }
  }
  const fs::path path = fs::path(testing::TempDir()) / "mobe_golden.json";
  std::ofstream(path, std::ios::binary) << json.dump();
  Tokenizer tokenizer = Tokenizer::Load(path);
  fs::remove(path);
  return tokenizer;
}

TEST(TokenizerGoldenTest, VariantsOfTheBundledTokenizer) {
  const Json variants = ReadJson(MOBE_TEST_DATA "/text/goldens.json");
  ASSERT_FALSE(variants.empty());
  for (const Json& variant : variants) {
    SCOPED_TRACE(variant["name"]);
    const Tokenizer tokenizer = LoadVariant(variant);
    for (const Json& c : variant["cases"]) {
      SCOPED_TRACE(c[0].dump());
      const Ids ids = c[1];
      EXPECT_EQ(tokenizer.Encode(c[0].get<std::string>()), ids);
      EXPECT_EQ(tokenizer.Decode(ids), c[2].get<std::string>());
      EXPECT_EQ(tokenizer.Decode(ids, true), c[3].get<std::string>());
      EXPECT_EQ(StreamText(tokenizer, ids, false), c[2].get<std::string>());
      EXPECT_EQ(StreamText(tokenizer, ids, true), c[3].get<std::string>());
    }
  }
}

class SharedTokenizerTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("MOBE_SHARED");
    data_ = fs::path(folder ? folder : MOBE_SOURCE_DIR "/../shared") / "data";
    if (!fs::exists(data_ / "tokenizers")) {
      GTEST_SKIP() << data_ << " is absent; MOBE_SHARED names another folder";
    }
  }

  std::string Read(const std::string& name) const {
    return ReadSmallFile(data_ / name);
  }
  Tokenizer Load(const std::string& name) const {
    return Tokenizer::Load(data_ / "tokenizers" / name);
  }

  // 46 texts and, in lines, their ids.
  void CheckLlamaCpp(const std::string& tokenizer_name,
                     const std::string& name) const {
    const Tokenizer tokenizer = Load(tokenizer_name);
    const std::string file = "tokenizers/llama.cpp-vocab/" + name;
    std::string texts = Read(file + ".inp");
    std::istringstream lines(Read(file + ".out"));
    const std::string mark = "\n__ggml_vocab_test__\n";
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
      const size_t end = texts.find(mark);
      ASSERT_NE(end, std::string::npos);
      std::istringstream numbers(line);
      Ids ids;
      for (int32_t id; numbers >> id;) ids.push_back(id);
      EXPECT_EQ(tokenizer.Encode(texts.substr(0, end)), ids)
          << texts.substr(0, end);
      texts.erase(0, end + mark.size());
    }
    EXPECT_EQ(count, 46);
  }

  fs::path data_;
};

Ids ReadIds(const std::string& line) {
  std::istringstream numbers(line);
  Ids ids;
  for (std::string id; std::getline(numbers, id, ',');) {
    if (!id.empty()) ids.push_back(std::stoi(id));
  }
  return ids;
}

TEST_F(SharedTokenizerTest, LlamaCppQwen) {
  CheckLlamaCpp("qwen3", "ggml-vocab-qwen2.gguf");
}

TEST_F(SharedTokenizerTest, LlamaCppGpt2) {
  CheckLlamaCpp("gpt2", "ggml-vocab-gpt-2.gguf");
}

TEST_F(SharedTokenizerTest, KitokenGpt2) {
  const Tokenizer tokenizer = Load("gpt2");
  for (const std::string name : {"small", "mixed"}) {
    std::istringstream texts(
        Read("tokenizers/kitoken-vectors/" + name + "_input.txt"));
    std::istringstream lines(
        Read("tokenizers/kitoken-vectors/" + name + "_tokens_gpt2.txt"));
    std::string line;
    int count = 0;
    for (std::string text; std::getline(texts, text);) {
      if (text.empty()) continue;
      for (const auto& [from, to] :
           {std::pair("\\n", "\n"), std::pair("\\s", " "),
            std::pair("\\x", "")}) {
        for (size_t i; (i = text.find(from)) != std::string::npos;) {
          text.replace(i, 2, to);
        }
      }
      ASSERT_TRUE(std::getline(lines, line));
      EXPECT_EQ(tokenizer.Encode(text), ReadIds(line)) << text;
      ++count;
    }
    EXPECT_GE(count, 20);
  }
  std::string ids = Read("tokenizers/kitoken-vectors/utf8_tokens_gpt2.txt");
  for (char& c : ids) {
    if (c == '\n') c = ',';
  }
  EXPECT_EQ(tokenizer.Encode(Read("tokenizers/kitoken-vectors/utf8_input.txt")),
            ReadIds(ids));
}

TEST_F(SharedTokenizerTest, WikiText2ByQwen3) {
  const Tokenizer tokenizer = Load("qwen3/tokenizer.json");
  EXPECT_EQ(tokenizer.vocab_size(), 151669);
  const std::string text = Read("wikitext-2/raw/wiki.test.raw");
  const Ids ids = tokenizer.Encode(text);
  EXPECT_EQ(ids.size(), 299078u);
  EXPECT_TRUE(tokenizer.Decode(ids) == text);
}

}  // namespace
}  // namespace mobe
