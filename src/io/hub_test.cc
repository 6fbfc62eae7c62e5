#include "io/hub.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "base/testing.h"
#include "io/checkpoint.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

class HubTest : public ::testing::Test {
 protected:
  void Write(const std::string& name, std::string_view text = "{}") const {
    fs::create_directories((folder_ / name).parent_path());
    WriteText(folder_ / name, text);
  }
  void Expect(ErrorKind kind, const std::string& text,
              const std::string& below = "") const {
    ExpectError(kind, text, [&] { Checkpoint{folder_ / below}; });
  }

  const TempFolder folder_;
};

TEST(HubNameTest, OfSnapshotsOnly) {
  EXPECT_EQ(HubName("/c/models--Qwen--Qwen3-30B/snapshots/0123/"),
            "Qwen/Qwen3-30B");
  EXPECT_EQ(HubName("/c/models--gpt2/snapshots/0123"), "gpt2");
  EXPECT_EQ(HubName("/c/models--Qwen--Qwen3-30B"), std::nullopt);
  EXPECT_EQ(HubName("/c/datasets--a--b/snapshots/0123"), std::nullopt);
}

// Sets an environment variable while it lives.
class WithVariable {
 public:
  WithVariable(const char* name, const std::string& value) : name_(name) {
    const char* before = std::getenv(name);
    if (before != nullptr) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  WithVariable(const WithVariable&) = delete;
  WithVariable& operator=(const WithVariable&) = delete;
  ~WithVariable() {
    before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_);
  }

 private:
  const char* const name_;
  std::optional<std::string> before_;
};

TEST_F(HubTest, FolderOfAName) {
  Write("hub/models--a--b.c/snapshots/1/config.json");
  Write("hub/models--a--b.c/snapshots/2/config.json");
  Write("hub/models--a--b.c/refs/main", "2");
  Write("hub/models--a--empty/refs/main", "2");
  const fs::path snapshot = folder_ / "hub/models--a--b.c/snapshots/2";
  {
    const WithVariable none("HF_HUB_CACHE", "");
    const WithVariable home("HF_HOME", folder_.path());
    EXPECT_EQ(ModelFolder("a/b.c"), snapshot);
    for (const char* other :
         {"a", "a/b/c", "./a/b", "/a/b.c", "a/", "a//b", "../b", ""}) {
      EXPECT_EQ(ModelFolder(other), other);
    }
    ExpectError(ErrorKind::kMissing,
                "a/none: no such folder, and no such model in Hugging Face's "
                "cache, " +
                    (folder_ / "hub").string() +
                    "; 'hf download a/none' gets it",
                [] { ModelFolder("a/none"); });
    ExpectError(ErrorKind::kMissing, "'hf download a/empty' gets it",
                [] { ModelFolder("a/empty"); });
  }
  const WithVariable cache("HF_HUB_CACHE", folder_ / "hub");
  const WithVariable home("HF_HOME", "/none");
  EXPECT_EQ(ModelFolder("a/b.c"), snapshot);
}

TEST_F(HubTest, UnfinishedDownloads) {
  Write("m/config.json");
  Write("m/.cache/huggingface/download/xyz.incomplete");
  Expect(ErrorKind::kMissing,
         "xyz.incomplete is of an unfinished download); 'hf download", "m");
  Write("models--a--b/snapshots/1/config.json");
  Write("models--a--b/blobs/0123.incomplete");
  Expect(ErrorKind::kMissing,
         "blobs/0123.incomplete is of an unfinished download); 'hf download "
         "a/b ",
         "models--a--b/snapshots/1");
}

TEST_F(HubTest, FoldersAboveTheModel) {
  Write("models--a--b/snapshots/1/config.json");
  Write("models--a--b/snapshots/2/config.json");
  const std::string root = (folder_ / "models--a--b").string();
  Expect(ErrorKind::kMissing,
         root +
             ": no model itself, but its folder in Hugging Face's cache; "
             "name " +
             root + "/snapshots/1",
         "models--a--b");
  Write("models--a--b/refs/main", "2\n");
  Expect(ErrorKind::kMissing, "name " + root + "/snapshots/2", "models--a--b");
  Expect(ErrorKind::kMissing, "no model itself; name " + root + "/snapshots/1",
         "models--a--b/snapshots");
}

TEST_F(HubTest, WhatHasNoConfig) {
  Expect(ErrorKind::kMissing,
         "/config.json: not there, so this is no model's folder; 'hf download "
         "MODEL config.json --local-dir ");
  fs::create_symlink("../blobs/1", folder_ / "config.json");
  Expect(ErrorKind::kMissing, "/config.json: a link to ../blobs/1, which is");
  fs::remove(folder_ / "config.json");
  Write("params.json");
  Expect(ErrorKind::kUnsupported, "/params.json: the publisher's own format");
  Write("q4.gguf");
  Expect(ErrorKind::kUnsupported, "/q4.gguf: GGUF can't be read");
  Write("adapter_config.json", "[");
  Expect(ErrorKind::kUnsupported, "an adapter of another model, no model;");
  Write("adapter_config.json", R"({"base_model_name_or_path": "x/y"})");
  Expect(ErrorKind::kUnsupported, "an adapter of x/y, no model; merge it");
}

TEST_F(HubTest, WhatHasNoWeights) {
  Write("config.json");
  Expect(ErrorKind::kMissing,
         "neither model.safetensors nor model.safetensors.index.json is there; "
         "'hf download MODEL --include '*.safetensors*' --local-dir ");
  Write("pytorch_model-00001-of-00002.bin");
  Expect(ErrorKind::kMissing,
         "is there; pytorch_model-00001-of-00002.bin and "
         "what other formats there are must be converted");
  Write("model-00001-of-00003.safetensors");
  Expect(ErrorKind::kMissing,
         "/model.safetensors.index.json: not there, but "
         "model-00001-of-00003.safetensors and the like are");
  fs::create_symlink("../blobs/2", folder_ / "model.safetensors");
  Expect(ErrorKind::kMissing,
         "/model.safetensors: a link to ../blobs/2, which is not there; ");
}

TEST_F(HubTest, MissingShards) {
  const std::string snapshot = "models--a--b/snapshots/1";
  Write(snapshot + "/config.json");
  Write(snapshot + "/model.safetensors.index.json",
        R"({"weight_map": {"t": "1.safetensors", "u": "2.safetensors"}})");
  Expect(ErrorKind::kMissing,
         "/1.safetensors: not there, but " + (folder_ / snapshot).string() +
             "/model.safetensors.index.json names it and 1 more; 'hf download "
             "a/b --include '*.safetensors*'' gets it",
         snapshot);
  WriteText(folder_ / (snapshot + "/2.safetensors"), "");
  fs::create_symlink("../../blobs/1", folder_ / (snapshot + "/1.safetensors"));
  Expect(ErrorKind::kMissing,
         "/1.safetensors: a link to ../../blobs/1, which is not there, but ",
         snapshot);
  fs::remove(folder_ / (snapshot + "/1.safetensors"));
  Write(snapshot + "/1.safetensors.part");
  Expect(ErrorKind::kMissing,
         "names it (1.safetensors.part is of an unfinished download); 'hf "
         "download a/b 1.safetensors' gets it",
         snapshot);
}

TEST_F(HubTest, LfsPointers) {
  const std::string pointer = "a Git LFS pointer, not the file that it stands";
  Write("config.json", kLfsPointer);
  Expect(ErrorKind::kMissing, "/config.json: " + pointer);
  Write("config.json");
  Write("model.safetensors.index.json", kLfsPointer);
  Expect(ErrorKind::kMissing, "/model.safetensors.index.json: " + pointer);
  Write("model.safetensors", kLfsPointer);
  Expect(ErrorKind::kMissing, "/model.safetensors: " + pointer);
}

TEST_F(HubTest, QuantisationThatConfigDoesNotTell) {
  const TensorView scale{{"up_proj.weight_scale", DType::kF32, {1}}, {}};
  const auto expect = [&](const char* text) {
    ExpectError(ErrorKind::kUnsupported, text,
                [&] { CheckQuantConfig(folder_.path(), Json(), {&scale}); });
  };
  CheckQuantConfig(folder_.path(), Json(), {&scale});
  Write("hf_quant_config.json", R"({"quantization": {"quant_algo": "NVFP4"}})");
  expect("/hf_quant_config.json: the model is quantised (NVFP4) by NVIDIA's");
  // Whether this can be read is seen elsewhere.
  CheckQuantConfig(folder_.path(),
                   Json{{"quantization_config", {{"quant_method", "fp8"}}}},
                   {&scale});
  CheckQuantConfig(folder_.path(), Json(), {});
  Write("hf_quant_config.json", "[1]");
  expect("/hf_quant_config.json: the model is quantised by NVIDIA's");
}

}  // namespace
}  // namespace mobe
