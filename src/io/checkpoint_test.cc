#include "io/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;

// A file of one-byte tensors, each holding the first letter of its name.
void WriteWeights(const fs::path& path, const std::vector<std::string>& names) {
  std::vector<TensorDecl> tensors;
  for (const std::string& name : names) {
    tensors.push_back({name, DType::kU8, {1}});
  }
  SafetensorsWriter writer(path, tensors);
  for (const std::string& name : names) {
    writer.Append(name, std::as_bytes(std::span(name.data(), 1)));
  }
  writer.Commit();
}

void WriteIndex(const fs::path& folder, const Json& weight_map) {
  WriteText(folder / "model.safetensors.index.json",
            Json{{"weight_map", weight_map}}.dump());
}

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() { WriteText(folder_ / "config.json", "{\"k\": 1}"); }

  void ExpectOpenError(ErrorKind kind, std::string_view text) {
    ExpectError(kind, text, [this] { Checkpoint{folder_.path()}; });
  }

  const TempFolder folder_;
};

TEST_F(CheckpointTest, SingleFile) {
  WriteWeights(folder_ / "model.safetensors", {"a", "b"});
  const Checkpoint checkpoint(folder_.path());
  EXPECT_EQ(checkpoint.config().at("k"), 1);
  EXPECT_EQ(checkpoint.config_path(), (folder_ / "config.json").string());
  EXPECT_EQ(checkpoint.tensors().size(), 2u);
  EXPECT_EQ(checkpoint.bytes(), 2);
  const TensorView& b = checkpoint.At("b");
  EXPECT_EQ(static_cast<char>(b.data[0]), 'b');
  EXPECT_EQ(checkpoint.FileOf(b), (folder_ / "model.safetensors").string());
  checkpoint.Evict(b);
  EXPECT_EQ(static_cast<char>(b.data[0]), 'b');
  EXPECT_EQ(checkpoint.Find("c"), nullptr);
  ExpectError(ErrorKind::kMissing, folder_.path().string() + ": tensor \"c\"",
              [&] { checkpoint.At("c"); });
  TensorView stranger = b;
  stranger.data = {};
  ExpectError(ErrorKind::kInternal, "tensor \"b\"",
              [&] { checkpoint.FileOf(stranger); });
}

TEST_F(CheckpointTest, ShardsComeInTheOrderOfTheirNames) {
  WriteWeights(folder_ / "2.safetensors", {"a"});
  WriteWeights(folder_ / "1.safetensors", {"z", "b"});
  WriteIndex(
      folder_.path(),
      {{"a", "2.safetensors"}, {"b", "1.safetensors"}, {"z", "1.safetensors"}});
  Checkpoint opened(folder_.path());
  const Checkpoint checkpoint(std::move(opened));
  std::vector<std::string> names;
  for (const TensorView* tensor : checkpoint.tensors()) {
    names.push_back(tensor->name);
  }
  EXPECT_THAT(names, ElementsAre("z", "b", "a"));
  EXPECT_EQ(checkpoint.FileOf(checkpoint.At("a")),
            (folder_ / "2.safetensors").string());
  EXPECT_EQ(checkpoint.FileOf(checkpoint.At("b")),
            (folder_ / "1.safetensors").string());
}

TEST_F(CheckpointTest, SingleFileWinsOverIndex) {
  WriteWeights(folder_ / "model.safetensors", {"a"});
  WriteIndex(folder_.path(), {{"b", "missing.safetensors"}});
  EXPECT_NE(Checkpoint(folder_.path()).Find("a"), nullptr);
}

TEST_F(CheckpointTest, FilesMayBeSymbolicLinks) {
  const TempFolder blobs;
  WriteWeights(blobs / "1234", {"a"});
  fs::create_symlink(blobs / "1234", folder_ / "1.safetensors");
  WriteIndex(folder_.path(), {{"a", "1.safetensors"}});
  EXPECT_NE(Checkpoint(folder_.path()).Find("a"), nullptr);
  fs::remove(blobs / "1234");
  ExpectOpenError(ErrorKind::kMissing, "/1.safetensors: a link to " +
                                           (blobs / "1234").string() +
                                           ", which is not there");
}

TEST_F(CheckpointTest, IndexNamesPlainFilesOnly) {
  WriteWeights(folder_ / "1.safetensors", {"a"});
  WriteText(folder_ / "1.bin", "");
  const std::string absolute = (folder_ / "1.safetensors").string();
  for (const Json& file :
       {Json(absolute), Json("./1.safetensors"), Json("../1.safetensors"),
        Json("x/../1.safetensors"), Json(""), Json("."), Json(".."),
        Json("1.bin"), Json(1), Json(),
        Json(std::string("1\0.safetensors", 14)),
        Json(Json::array({"1.safetensors"}))}) {
    WriteIndex(folder_.path(), {{"a", file}});
    ExpectOpenError(ErrorKind::kCorruptFile,
                    "index.json: tensor \"a\": its file is " + file.dump());
  }
}

TEST_F(CheckpointTest, TellsWhereIndexAndShardsDisagree) {
  WriteWeights(folder_ / "1.safetensors", {"a", "b", "o"});
  WriteWeights(folder_ / "2.safetensors", {"b", "c"});
  WriteIndex(folder_.path(), {{"a", "1.safetensors"},
                              {"b", "2.safetensors"},
                              {"c", "2.safetensors"},
                              {"x", "1.safetensors"}});
  const Checkpoint checkpoint(folder_.path());
  EXPECT_EQ(checkpoint.IndexFault("a"), nullptr);
  EXPECT_EQ(checkpoint.IndexFault("c"), nullptr);
  const std::pair<const char*, const char*> faults[] = {
      {"o", "/1.safetensors: tensor \"o\" is not in the index"},
      {"x", "/1.safetensors: tensor \"x\" is not in this file, but"},
      {"b", "/1.safetensors: tensor \"b\" is in this file, but"}};
  for (const auto& [name, message] : faults) {
    const std::string* fault = checkpoint.IndexFault(name);
    ASSERT_NE(fault, nullptr) << name;
    EXPECT_NE(fault->find(message), std::string::npos) << *fault;
  }
  // Of two, that which the index means.
  EXPECT_EQ(checkpoint.tensors().size(), 4u);
  EXPECT_EQ(checkpoint.FileOf(checkpoint.At("b")),
            (folder_ / "2.safetensors").string());
  EXPECT_EQ(checkpoint.Find("x"), nullptr);
}

TEST_F(CheckpointTest, PartsTakeTheTensorsPlace) {
  WriteWeights(folder_ / "model.safetensors", {"a", "bc", "d"});
  Checkpoint opened(folder_.path());
  const auto part = [](const char* name) {
    TensorView view;
    view.name = name;
    return view;
  };
  ExpectError(ErrorKind::kCorruptFile, "tensors \"d\" and \"a\" are both there",
              [&] { opened.Split(opened.At("d"), {part("a")}); });
  TensorView b = opened.At("bc");
  b.name = "b";
  opened.Split(opened.At("bc"), {b, part("c")});
  const Checkpoint checkpoint(std::move(opened));
  EXPECT_EQ(checkpoint.Find("bc"), nullptr);
  EXPECT_EQ(static_cast<char>(checkpoint.At("b").data[0]), 'b');
  EXPECT_EQ(checkpoint.tensors()[1], checkpoint.Find("b"));
  EXPECT_EQ(checkpoint.tensors()[2], checkpoint.Find("c"));
  EXPECT_EQ(checkpoint.FileOf(checkpoint.At("b")),
            (folder_ / "model.safetensors").string());
  checkpoint.Evict(checkpoint.At("b"));
}

TEST_F(CheckpointTest, ModeloptIsNamed) {
  WriteWeights(folder_ / "model.safetensors", {"a"});
  WriteText(folder_ / "hf_quant_config.json",
            R"({"quantization": {"quant_algo": null}})");
  Checkpoint(folder_.path());
  WriteText(folder_ / "hf_quant_config.json",
            R"({"quantization": {"quant_algo": "NVFP4"}})");
  ExpectOpenError(
      ErrorKind::kUnsupported,
      "hf_quant_config.json: the weights are quantised by ModelOpt, "
      "quant_algo \"NVFP4\"");
}

TEST_F(CheckpointTest, MissingParts) {
  ExpectOpenError(ErrorKind::kMissing,
                  ": neither model.safetensors nor model.safetensors.index");
  WriteWeights(folder_ / "model.safetensors", {"a"});
  WriteText(folder_ / "config.json", "[1]");
  ExpectOpenError(ErrorKind::kCorruptFile,
                  "/config.json: is [1], expected an object");
  fs::remove(folder_ / "config.json");
  ExpectOpenError(ErrorKind::kMissing, "/config.json: ");
  ExpectError(ErrorKind::kMissing, "/none: no such folder",
              [this] { Checkpoint(folder_ / "none"); });
  WriteText(folder_ / "model.safetensors.index.json", "[]");
  fs::remove(folder_ / "model.safetensors");
  WriteText(folder_ / "config.json", "{}");
  ExpectOpenError(ErrorKind::kCorruptFile, "no object \"weight_map\"");
}

std::vector<TensorDecl> Decls(std::initializer_list<int64_t> sizes) {
  std::vector<TensorDecl> tensors;
  for (const int64_t size : sizes) {
    tensors.push_back({fmt::format("t{}", tensors.size()), DType::kU8, {size}});
  }
  return tensors;
}

// The number of tensors in each shard.
std::vector<size_t> Counts(const std::vector<Shard>& shards) {
  std::vector<size_t> counts;
  for (const Shard& shard : shards) counts.push_back(shard.tensors.size());
  return counts;
}

TEST(PlanShardsTest, Boundaries) {
  EXPECT_THAT(Counts(PlanShards({}, 10)), ElementsAre(0));
  EXPECT_THAT(Counts(PlanShards(Decls({5, 5}), 10)), ElementsAre(2));
  EXPECT_THAT(Counts(PlanShards(Decls({5, 5, 1}), 10)), ElementsAre(2, 1));
  EXPECT_THAT(Counts(PlanShards(Decls({5, 6}), 10)), ElementsAre(1, 1));
  EXPECT_THAT(Counts(PlanShards(Decls({1, 11, 1, 9, 0}), 10)),
              ElementsAre(1, 1, 3));
  EXPECT_THAT(Counts(PlanShards(Decls({0, 11, 0}), 10)), ElementsAre(1, 1, 1));
  // Sizes whose sum does not fit.
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_THAT(Counts(PlanShards(Decls({kMax, kMax, 1}), kMax)),
              ElementsAre(1, 1, 1));
}

TEST(PlanShardsTest, FileNames) {
  EXPECT_EQ(PlanShards(Decls({1}), 10)[0].file, "model.safetensors");
  const auto shards = PlanShards(Decls({10, 10, 10}), 10);
  ASSERT_EQ(shards.size(), 3u);
  EXPECT_EQ(shards[0].file, "model-00001-of-00003.safetensors");
  EXPECT_EQ(shards[2].file, "model-00003-of-00003.safetensors");
  EXPECT_EQ(shards[2].tensors[0].name, "t2");
}

TEST(ShardIndexTest, Text) {
  auto tensors = Decls({10, 7});
  tensors[0].name = "z\u00fc";
  EXPECT_EQ(ShardIndex(PlanShards(tensors, 10)), R"({
  "metadata": {
    "total_size": 17
  },
  "weight_map": {
    "t1": "model-00002-of-00002.safetensors",
    "z\u00fc": "model-00001-of-00002.safetensors"
  }
}
)");
}

}  // namespace
}  // namespace mobe
