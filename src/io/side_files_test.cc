#include "io/side_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/testing.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

TEST(CopySideFilesTest, CopiesWhatIsNeitherWeightsNorConfig) {
  const TempFolder from;
  const TempFolder to;
  for (const char* name :
       {"tokenizer.json", "LICENSE", "modeling_x.py", "config.json",
        "model.safetensors", "model.safetensors.index.json",
        "pytorch_model.bin", "pytorch_model.bin.index.json", "x.pth", "x.gguf",
        ".hidden", "x.json.tmp"}) {
    WriteText(from / name, name);
  }
  fs::create_directory(from / "subfolder");
  fs::create_symlink("tokenizer.json", from / "link.json");
  fs::create_symlink("nowhere", from / "broken.json");
  CopySideFiles(from.path(), to.path());
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(to.path())) {
    names.push_back(entry.path().filename());
  }
  EXPECT_THAT(names,
              ::testing::UnorderedElementsAre("tokenizer.json", "LICENSE",
                                              "modeling_x.py", "link.json"));
  EXPECT_EQ(ReadSmallFile(to / "link.json"), "tokenizer.json");
  EXPECT_FALSE(fs::is_symlink(to / "link.json"));
  ExpectError(ErrorKind::kMissing, "/none: cannot read the folder",
              [&] { CopySideFiles(from / "none", to.path()); });
}

}  // namespace
}  // namespace mobe
