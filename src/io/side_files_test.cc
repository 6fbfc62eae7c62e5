#include "io/side_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/testing.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

std::vector<std::string> Names(const SideFiles& files) {
  std::vector<std::string> names;
  for (const SideFile& file : files.copied) names.push_back(file.name);
  return names;
}

std::map<std::string, std::string> LeftOut(const SideFiles& files) {
  std::map<std::string, std::string> left_out;
  for (const LeftOutFile& file : files.left_out) {
    left_out[file.name] = file.why;
  }
  return left_out;
}

class SideFilesTest : public ::testing::Test {
 protected:
  void Write(const std::vector<std::string>& names) const {
    for (const std::string& name : names) {
      fs::create_directories((folder_ / name).parent_path());
      WriteText(folder_ / name, name.ends_with(".json") ? "{}" : "x");
    }
  }
  SideFiles List() const { return ListSideFiles(folder_.path()); }

  const TempFolder folder_;
};

TEST_F(SideFilesTest, WhatIsCopied) {
  const std::vector<std::string> copied = {
      "LICENSE",
      "README.md",
      "additional_chat_templates/tool_use.jinja",
      "chat_template.jinja",
      "configuration_x.py",
      "generation_config.json",
      "merges.txt",
      "preprocessor_config.json",
      "qwen.tiktoken",
      "tokenization_kimi.py",
      "tokenizer.json",
      "tokenizer.model",
      "unknown"};
  Write(copied);
  Write({"config.json", "model-00001-of-00002.safetensors",
         "model.safetensors.index.json"});
  const SideFiles files = List();
  EXPECT_THAT(Names(files), copied);
  EXPECT_THAT(files.left_out, IsEmpty());
  EXPECT_THAT(files.broken, IsEmpty());
  EXPECT_EQ(files.bytes(), 10 + 3 * 2);
}

TEST_F(SideFilesTest, WhatIsLeftOut) {
  const std::map<std::string, std::string> left_out = {
      {".env", "hidden"},
      {".cache", "hidden"},
      {"additional_chat_templates/notes.txt", "not a template"},
      {"hf_quant_config.json", "the copy is not quantised so"},
      {"consolidated.00.pth", "weights"},
      {"original", "a folder"},
      {"adapter.safetensors", "weights"},
      {"pytorch_model.bin", "weights"},
      {"pytorch_model.bin.index.json", "an index of weights"},
      {"tf_model.h5", "weights"},
      {"flax_model.msgpack", "weights"},
      {"rust_model.ot", "weights"},
      {"model.onnx", "weights"},
      {"q4.gguf", "weights"},
      {"optimizer.pt", "training state"},
      {"optimizer_0.bin", "training state"},
      {"scheduler.pt", "training state"},
      {"rng_state_0.pth", "training state"},
      {"trainer_state.json", "training state"},
      {"training_args.bin", "training state"},
      {"events.out.tfevents.1", "training state"},
      {"nohup.out", "training state"},
      {"train.log", "training state"},
      {"checkpoint-500", "training state"},
      {"global_step500", "training state"},
      {"runs", "training state"},
      {"wandb", "training state"},
      {"x.tmp", "temporary"},
      {"x.lock", "temporary"},
      {"model.safetensors.aria2", "an unfinished download"},
      {"tokenizer.json.incomplete", "an unfinished download"},
      {"x.part", "an unfinished download"}};
  for (const auto& [name, why] : left_out) {
    if (name.find('.') != std::string_view::npos) Write({name});
  }
  for (const char* name :
       {"original", "checkpoint-500", "global_step500", "runs", "wandb"}) {
    Write({std::string(name) + "/tokenizer.json"});
  }
  const SideFiles files = List();
  EXPECT_THAT(Names(files), IsEmpty());
  EXPECT_EQ(LeftOut(files), left_out);
  // The user has to look whether these are whole.
  EXPECT_THAT(CheckSideFiles(files),
              ElementsAre(HasSubstr("/model.safetensors.aria2: an unfinished"),
                          HasSubstr("/tokenizer.json.incomplete: an unf"),
                          HasSubstr("/x.part: an unfinished download; it is "
                                    "not copied")));
}

// Room is made, nothing is written: it takes no space.
TEST_F(SideFilesTest, LargeFilesOfNoKnownKindAreLeftOutWithAWarning) {
  Write({"figures.dat", "data.dat", "tokenizer.json"});
  fs::resize_file(folder_ / "data.dat", 64 << 20);
  fs::resize_file(folder_ / "figures.dat", (64 << 20) + 1);
  fs::resize_file(folder_ / "tokenizer.json", (64 << 20) + 1);
  const SideFiles files = List();
  EXPECT_THAT(Names(files), ElementsAre("data.dat", "tokenizer.json"));
  EXPECT_THAT(
      LeftOut(files),
      ElementsAre(Pair("figures.dat", "of no known kind, and 67.11 MB")));
  EXPECT_THAT(CheckSideFiles(files),
              ElementsAre(HasSubstr("/figures.dat: of no known kind")));
}

TEST_F(SideFilesTest, ANeededFileThatIsBrokenEndsIt) {
  const auto link = [&](const char* to) {
    fs::create_symlink(to, folder_ / "tokenizer.json");
  };
  const auto text = [&](std::string_view what) {
    WriteText(folder_ / "tokenizer.json", what);
  };
  const std::pair<const char*, std::function<void()>> cases[] = {
      {"a link to ../blobs/1, which is not there; get the file again",
       [&] { link("../blobs/1"); }},
      {"cannot be read: Too many levels", [&] { link("tokenizer.json"); }},
      {"not a regular file",
       [&] { ::mkfifo((folder_ / "tokenizer.json").c_str(), 0666); }},
      {"not a regular file", [&] { link("/dev/zero"); }},
      {"a Git LFS pointer, not the file", [&] { text(kLfsPointer); }},
      {"empty; get the file again", [&] { text(""); }},
      {"does not begin as JSON", [&] { text("Entry not found"); }},
      {"does not begin as JSON", [&] { text(std::string(5, '\0')); }}};
  for (const auto& [message, make] : cases) {
    fs::remove(folder_ / "tokenizer.json");
    make();
    const SideFiles files = List();
    EXPECT_THAT(Names(files), IsEmpty());
    ExpectError(ErrorKind::kMissing,
                (folder_ / "tokenizer.json: ").string() + message,
                [&] { CheckSideFiles(files); });
  }
  WriteText(folder_ / "merges.txt", kLfsPointer);
  ExpectError(ErrorKind::kMissing, "; nor can tokenizer.json be copied",
              [&] { CheckSideFiles(List()); });
  fs::remove(folder_ / "merges.txt");
  text("\xef\xbb\xbf\n {}");
  EXPECT_THAT(CheckSideFiles(List()), IsEmpty());
}

TEST_F(SideFilesTest, ATemplatesFolderThatIsLostEndsIt) {
  fs::create_symlink("nowhere", folder_ / "additional_chat_templates");
  ExpectError(ErrorKind::kMissing,
              "/additional_chat_templates: a link to nowhere, which is not "
              "there; get the file again",
              [&] { CheckSideFiles(List()); });
}

// The same command would copy it a moment later.
TEST_F(SideFilesTest, OneThatCannotBeReadNowEndsIt) {
  fs::create_symlink("/proc/self/mem", folder_ / "README.md");
  ExpectError(ErrorKind::kUserInput,
              (folder_ / "README.md: cannot be read: Input/output").string(),
              [&] { List(); });
}

TEST_F(SideFilesTest, OthersThatAreBrokenAreWarnedOf) {
  WriteText(folder_ / "figures.dat", kLfsPointer);
  WriteText(folder_ / "empty.txt", "");
  fs::create_symlink("nowhere", folder_ / "README.md");
  fs::create_symlink("nowhere", folder_ / "optimizer.pt");
  const SideFiles files = List();
  EXPECT_THAT(Names(files), ElementsAre("empty.txt"));
  EXPECT_THAT(CheckSideFiles(files),
              ElementsAre(HasSubstr("/README.md: a link to nowhere, which is "
                                    "not there"),
                          HasSubstr("/figures.dat: a Git LFS pointer")));
}

// Of two forms of the weights one counts: which, the user has to know.
TEST_F(SideFilesTest, ShardsThatAreNotRead) {
  Write({"model.safetensors", "model-00001-of-00001.safetensors"});
  EXPECT_THAT(CheckSideFiles(List()),
              ElementsAre(HasSubstr("/model-00001-of-00001.safetensors: not "
                                    "read, nor are the other shards, since "
                                    "model.safetensors is there; ")));
}

TEST_F(SideFilesTest, TheFolderItself) {
  ExpectError(ErrorKind::kMissing, "/none: cannot read the folder",
              [&] { ListSideFiles(folder_ / "none"); });
}

TEST_F(SideFilesTest, Copies) {
  Write({"tokenizer.json", "README.md", "LICENSE", "caf\xe9 100%\n.txt",
         "additional_chat_templates/tool_use.jinja"});
  fs::create_symlink("LICENSE", folder_ / "LICENCE");
  SideFiles files = List();
  LeaveOut("LICENSE", &files);
  ASSERT_NE(files.Find("README.md"), nullptr);
  for (SideFile& file : files.copied) {
    if (file.name == "README.md") file.as = "README.original.md";
  }
  const TempFolder to;
  EXPECT_THAT(CopySideFiles(files, to.path()),
              ElementsAre("LICENCE", "README.original.md",
                          "additional_chat_templates/tool_use.jinja",
                          "caf\xe9 100%\n.txt", "tokenizer.json"));
  size_t count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(to.path())) {
    count += entry.is_regular_file() ? 1 : 0;
  }
  EXPECT_EQ(count, 5u);
  EXPECT_EQ(ReadSmallFile(to / "tokenizer.json"), "{}");
  EXPECT_FALSE(fs::is_symlink(to / "LICENCE"));
}

TEST(TextOfNameTest, ThereAndBack) {
  const std::pair<std::string, std::string> names[] = {
      {"tokenizer.json", "tokenizer.json"},
      {"a/b\xc3\xbc\xf0\x9f\x99\x82", "a/b\xc3\xbc\xf0\x9f\x99\x82"},
      {"caf\xe9", "caf%E9"},
      {"\xff\xfe"
       "a",
       "%FF%FEa"},
      {"\xc3", "%C3"},
      {"\xed\xa0\x80", "%ED%A0%80"},  // a surrogate
      {"100%", "100%25"},
      {"%E9", "%25E9"},
      {"a\nb\x7f", "a%0Ab%7F"}};
  for (const auto& [name, text] : names) {
    EXPECT_EQ(TextOfName(name), text);
    EXPECT_EQ(NameOfText(text), name);
  }
  // Of nobody that TextOfName has written.
  EXPECT_EQ(NameOfText("100%"), "100%");
  EXPECT_EQ(NameOfText("%zz%4"), "%zz%4");
}

}  // namespace
}  // namespace mobe
