#include "compress/verify_side_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compress/recipe.h"
#include "compress/reconstruct.h"
#include "compress/testing.h"
#include "compress/verify.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kTemplate[] = "additional_chat_templates/tool_use.jinja";
constexpr char kLatin[] = "caf\xe9.txt";  // no UTF-8

ProgressFn Into(std::vector<std::string>* warnings) {
  return [warnings](const ProgressEvent& event) {
    if (!event.warning.empty()) warnings->push_back(event.warning);
  };
}

// A model with side files of every kind, and what compress makes of it.
class VerifySideFilesTest : public ::testing::Test {
 protected:
  VerifySideFilesTest() {
    CopyModel(TinyModel(), model_);
    fs::create_directory(model_ / "additional_chat_templates");
    WriteText(model_ / kTemplate, "tools");
    WriteText(model_ / "tokenizer.json", "{}");
    WriteText(model_ / "README.md", "card");
    WriteText(model_ / "recipe.json", "of another model");
    WriteText(model_ / "optimizer.pt", "x");
    WriteText(model_ / kLatin, "x");
    RunCompress(model_, QuickOptions(2), out_, Into(&warnings_));
  }

  std::vector<std::string> Faults() const {
    return CompareSideFiles(model_, out_).faults;
  }

  const TempFolder folder_;
  const fs::path model_ = folder_ / "model";
  const fs::path out_ = folder_ / "out";
  std::vector<std::string> warnings_;
};

TEST_F(VerifySideFilesTest, CompressCopiesThem) {
  EXPECT_THAT(warnings_, IsEmpty());
  EXPECT_EQ(ReadSmallFile(out_ / kTemplate), "tools");
  EXPECT_EQ(ReadSmallFile(out_ / kLatin), "x");
  EXPECT_EQ(ReadSmallFile(out_ / "README.original.md"), "card");
  EXPECT_FALSE(fs::exists(out_ / "optimizer.pt"));
  const Recipe recipe = *ReadRecipe(out_);
  EXPECT_TRUE(recipe.files.contains(kTemplate));
  EXPECT_TRUE(recipe.files.contains(kLatin));
  EXPECT_THAT(CheckFiles(recipe, out_), IsEmpty());
  const VerifyReport report = Verify(out_, OpenModel(model_), Into(&warnings_));
  EXPECT_THAT(report.faults, IsEmpty());
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(VerifySideFilesTest, ReconstructCopiesThem) {
  const OneThread one_thread;
  Reconstruct(OpenModel(out_), folder_ / "plain", 1 << 30, Into(&warnings_));
  EXPECT_EQ(ReadSmallFile(folder_ / "plain" / kTemplate), "tools");
  EXPECT_EQ(ReadSmallFile(folder_ / "plain" / kLatin), "x");
  EXPECT_THAT(CompareSideFiles(model_, folder_ / "plain").faults, IsEmpty());
}

TEST_F(VerifySideFilesTest, EachFault) {
  const std::string at = out_.string() + "/";
  WriteText(out_ / "tokenizer.json", "[]");
  EXPECT_THAT(Faults(), ElementsAre(at + "tokenizer.json: differs from " +
                                    (model_ / "tokenizer.json").string() +
                                    ", expected a copy"));
  WriteText(out_ / "tokenizer.json", kLfsPointer);
  EXPECT_THAT(Faults(),
              ElementsAre(HasSubstr(at + "tokenizer.json: a Git LFS pointer")));
  fs::remove(out_ / "tokenizer.json");
  EXPECT_THAT(Faults(),
              ElementsAre(HasSubstr(at + "tokenizer.json: not there")));
  fs::create_symlink("nowhere", out_ / "tokenizer.json");
  EXPECT_THAT(
      Faults(),
      ElementsAre(HasSubstr(at + "tokenizer.json: a link to nowhere, which")));
  fs::remove(out_ / "tokenizer.json");
  WriteText(out_ / "tokenizer.json", "{}");

  fs::remove_all(out_ / "additional_chat_templates");
  WriteText(out_ / kLatin, "y");
  WriteText(out_ / "README.original.md", "x");
  EXPECT_THAT(Faults(), ElementsAre(HasSubstr(at + "README.md: differs"),
                                    HasSubstr(at + kTemplate + ": not there"),
                                    HasSubstr(at + kLatin + ": differs")));
}

// The original may have lost since then what the copy has; what both lack is
// told.
TEST_F(VerifySideFilesTest, OriginalsThatAreBroken) {
  WriteText(model_ / "tokenizer.json", kLfsPointer);
  WriteText(model_ / kLatin, kLfsPointer);
  EXPECT_THAT(Faults(), IsEmpty());
  fs::remove(out_ / "tokenizer.json");
  fs::remove(out_ / kLatin);
  const SideFileFindings found = CompareSideFiles(model_, out_);
  EXPECT_THAT(found.faults,
              ElementsAre(HasSubstr((model_ / "tokenizer.json").string() +
                                    ": a Git LFS pointer")));
  EXPECT_THAT(found.warnings, ElementsAre(HasSubstr((model_ / kLatin).string() +
                                                    ": a Git LFS pointer")));
}

// Before any work.
TEST_F(VerifySideFilesTest, NothingBeginsWithoutWhatIsNeeded) {
  const fs::path other = folder_ / "other";
  fs::remove(model_ / "tokenizer.json");
  fs::create_symlink("../blobs/1", model_ / "tokenizer.json");
  const OpenedModel model = OpenModel(model_);
  ExpectError(ErrorKind::kMissing, "/tokenizer.json: a link to ../blobs/1",
              [&] { PlanCompression(model, QuickOptions(2)); });
  fs::remove(out_ / "tokenizer.json");
  WriteText(out_ / "tokenizer.json", "");
  ExpectError(ErrorKind::kMissing, "/tokenizer.json: empty", [&] {
    Reconstruct(OpenModel(out_), other, 1 << 30, Into(&warnings_));
  });
  EXPECT_FALSE(fs::exists(other));
}

TEST_F(VerifySideFilesTest, WarnsOfOthers) {
  fs::create_symlink("nowhere", model_ / "LICENSE");
  fs::remove(model_ / "README.md");
  WriteText(model_ / "README.md", kLfsPointer);
  const fs::path other = folder_ / "other";
  RunCompress(model_, QuickOptions(2), other, Into(&warnings_));
  EXPECT_THAT(warnings_,
              ElementsAre(HasSubstr("/LICENSE: a link to nowhere"),
                          HasSubstr("/README.md: a Git LFS pointer")));
  EXPECT_FALSE(fs::exists(other / "README.original.md"));
}

// One warning, of a run, of its continuation and of verify.
TEST_F(VerifySideFilesTest, ZerosInTheOriginal) {
  auto tensors = ReadTensors(model_ / "model.safetensors");
  const std::string expert = "model.layers.0.mlp.experts.1.up_proj.weight";
  for (const std::string& name : {std::string("model.norm.weight"), expert}) {
    auto& data = TensorOf(tensors, name).data;
    std::fill(data.begin(), data.end(), std::byte{0});
  }
  WriteTensors(model_ / "model.safetensors", tensors);
  const auto warning = HasSubstr("2 of 24 tensors are zero, all or a long");
  const fs::path other = folder_ / "other";
  const OpenedModel model = OpenModel(model_);
  const CompressPlan plan = PlanCompression(model, QuickOptions(2));
  {
    CompressPlan stopped = plan;
    stopped.options.stop = [&] { return !warnings_.empty(); };
    EXPECT_THROW(Compress(model, stopped, other, Into(&warnings_), nullptr),
                 Stopped);
  }
  EXPECT_THAT(warnings_, ElementsAre(warning));
  warnings_.clear();
  Compress(model, plan, other, Into(&warnings_), nullptr);
  EXPECT_THAT(warnings_, ElementsAre(warning));
  warnings_.clear();
  EXPECT_THAT(Verify(other, model, Into(&warnings_)).faults, IsEmpty());
  ASSERT_THAT(warnings_, ElementsAre(warning));
  EXPECT_THAT(warnings_[0], HasSubstr(expert + ", model.norm.weight; "));
}

}  // namespace
}  // namespace mobe
