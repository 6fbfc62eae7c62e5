// Ids of Hugging Face's library and of tiktoken: those that
// scripts/make_tokenizer_goldens.py has written, and, where ../shared is, of
// published tokenizers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/testing.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"

namespace mobe::text_golden_test {
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
  Json json = ReadJson(SourcePath("models/mini-qwen3-moe/tokenizer.json"));
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
  const Json variants = ReadJson(SourcePath("tests/data/text/goldens.json"));
  ASSERT_FALSE(variants.empty());
  for (const Json& variant : variants) {
    SCOPED_TRACE(variant["name"]);
    const Tokenizer tokenizer = LoadVariant(variant);
    Ids around = tokenizer.affixes().before;
    std::ranges::copy(tokenizer.Encode("\n"), std::back_inserter(around));
    std::ranges::copy(tokenizer.affixes().behind, std::back_inserter(around));
    EXPECT_EQ(around, variant["around"].get<Ids>());
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

Ids ReadIds(const std::string& line) {
  std::istringstream numbers(line);
  Ids ids;
  for (int32_t id; numbers >> id;) {
    ids.push_back(id);
    if (numbers.peek() == ',') numbers.ignore();
  }
  return ids;
}

class SharedTokenizerTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("MOBE_SHARED");
    data_ = (folder ? fs::path(folder) : SourcePath("../shared")) / "data";
    if (!fs::exists(data_ / "tokenizers")) {
      GTEST_SKIP() << data_ << " is absent; MOBE_SHARED names another folder";
    }
    fs::create_directory(temporary_);
  }
  void TearDown() override { fs::remove_all(temporary_); }

  std::string Read(const std::string& name) const {
    return ReadSmallFile(data_ / name);
  }
  Tokenizer Load(const std::string& name) const {
    return Tokenizer::Load(data_ / "tokenizers" / name);
  }
  void Write(const std::string& name, const Json& json) const {
    std::ofstream(temporary_ / name, std::ios::binary) << json.dump();
  }

  // A folder as Kimi-K2's, of the parts that are there.
  Tokenizer LoadKimi(bool named = true) const {
    const fs::path folder = data_ / "tokenizers/kimi-k2";
    const fs::path vocabulary = temporary_ / "tiktoken.model";
    if (!fs::exists(vocabulary)) {
      fs::create_symlink(fs::absolute(folder / "tiktoken.model"), vocabulary);
    }
    Json names = Json::object();
    for (const Json& token : ReadJson(folder / "special_tokens.json")) {
      if (named) names[std::to_string(token["id"].get<int>())] = token;
    }
    Write("tokenizer_config.json", {{"tokenizer_class", "TikTokenTokenizer"},
                                    {"added_tokens_decoder", names}});
    return Tokenizer::Load(temporary_);
  }

  // The tokenizer.json of DeepSeek-LLM, of the parts that are there and of the
  // steps of DeepSeek-V2, which are the same.
  Tokenizer LoadDeepSeek() const {
    const std::string folder = "tokenizers/deepseek-llm/";
    const Json variants = ReadJson(SourcePath("tests/data/text/goldens.json"));
    const auto steps = std::ranges::find_if(
        variants, [](const Json& v) { return v["name"] == "DeepSeek-V2"; });
    Json json = (*steps)["patch"];
    json["model"] = {{"type", "BPE"},
                     {"vocab", ReadJson(data_ / (folder + "vocab.json"))},
                     {"merges", Json::array()}};
    std::istringstream merges(Read(folder + "merges.txt"));
    for (std::string line; std::getline(merges, line);) {
      json["model"]["merges"].push_back(line);
    }
    json["added_tokens"] = ReadJson(data_ / (folder + "added_tokens.json"));
    for (Json& token : json["added_tokens"]) {
      const bool special = token["special"];
      token.update({{"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", !special}});
    }
    Write("tokenizer.json", json);
    return Tokenizer::Load(temporary_);
  }

  // 46 texts and, in lines, their ids.
  void CheckLlamaCpp(const Tokenizer& tokenizer,
                     const std::string& name) const {
    const std::string file = "tokenizers/llama.cpp-vocab/" + name;
    std::string texts = Read(file + ".inp");
    std::istringstream lines(Read(file + ".out"));
    const std::string mark = "\n__ggml_vocab_test__\n";
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count) {
      const size_t end = texts.find(mark);
      ASSERT_NE(end, std::string::npos);
      Check(tokenizer, texts.substr(0, end), ReadIds(line));
      texts.erase(0, end + mark.size());
    }
    EXPECT_EQ(count, 46);
  }

  // 20 and 120 texts, and one that is a file, with their ids.
  void CheckKitoken(const Tokenizer& tokenizer, const std::string& name) const {
    const std::string folder = "tokenizers/kitoken-vectors/";
    for (const auto& [size, expected] :
         {std::pair("small", 20), std::pair("mixed", 120)}) {
      const std::string file = folder + size;
      const std::string ids_name = "_tokens_" + name + ".txt";
      std::istringstream texts(Read(file + "_input.txt"));
      std::istringstream lines(Read(file + ids_name));
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
        Check(tokenizer, text, ReadIds(line));
        ++count;
      }
      EXPECT_EQ(count, expected);
    }
    std::string ids = Read(folder + "utf8_tokens_" + name + ".txt");
    std::ranges::replace(ids, '\n', ',');
    Check(tokenizer, Read(folder + "utf8_input.txt"), ReadIds(ids));
  }

  static void Check(const Tokenizer& tokenizer, const std::string& text,
                    const Ids& ids) {
    EXPECT_EQ(tokenizer.Encode(text), ids) << text;
    // DeepSeek-LLM's token "ü" decodes to the byte that "ü" stands for in the
    // byte-level alphabet, as in Hugging Face's library.
    const bool lost =
        tokenizer.TokenId("ü") == 100014 && text.find("ü") != std::string::npos;
    EXPECT_EQ(tokenizer.Decode(ids) == text, !lost) << text;
  }

  fs::path data_;
  fs::path temporary_ =
      fs::path(testing::TempDir()) /
      (std::string("mobe_shared_") +
       testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(SharedTokenizerTest, Qwen) {
  const Tokenizer tokenizer = Load("qwen3");
  CheckLlamaCpp(tokenizer, "ggml-vocab-qwen2.gguf");
  // A Qwen tokenizer with other special tokens, which these texts don't have.
  CheckLlamaCpp(tokenizer, "ggml-vocab-deepseek-r1-qwen.gguf");
}

TEST_F(SharedTokenizerTest, Gpt2) {
  const Tokenizer tokenizer = Load("gpt2");
  CheckLlamaCpp(tokenizer, "ggml-vocab-gpt-2.gguf");
  CheckKitoken(tokenizer, "gpt2");
}

TEST_F(SharedTokenizerTest, DeepSeekLlm) {
  CheckLlamaCpp(LoadDeepSeek(), "ggml-vocab-deepseek-llm.gguf");
}

TEST_F(SharedTokenizerTest, Kimi) {
  const Tokenizer tokenizer = LoadKimi();
  EXPECT_EQ(tokenizer.vocab_size(), 163840);
  EXPECT_EQ(tokenizer.TokenId("[BOS]"), 163584);
  EXPECT_TRUE(tokenizer.affixes().empty());
  EXPECT_EQ(tokenizer.Encode("[BOS]<|im_user|>a<|reserved_token_163600|>"),
            (Ids{163584, 163587, 64, 163600}));
  // These ids are without special tokens: there, [PAD] is text.
  CheckKitoken(LoadKimi(/*named=*/false), "kimi_k2");
}

TEST_F(SharedTokenizerTest, WikiText2) {
  const std::string text = Read("wikitext-2/raw/wiki.test.raw");
  const Tokenizer qwen = Load("qwen3");
  EXPECT_EQ(qwen.vocab_size(), 151669);
  const Ids qwen_ids = qwen.Encode(text);
  EXPECT_EQ(qwen_ids.size(), 299078u);
  EXPECT_TRUE(qwen.Decode(qwen_ids) == text);
  const Tokenizer kimi = LoadKimi();
  const Ids kimi_ids = kimi.Encode(text);
  EXPECT_TRUE(kimi.Decode(kimi_ids) == text);
}

}  // namespace
}  // namespace mobe::text_golden_test
