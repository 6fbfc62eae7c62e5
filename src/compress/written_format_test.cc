// Version 2 of the native format as compress writes it: each change to it is
// refused when it is opened. mobe/format_test.cc has what the reference writes.
// And where tensors lie in files, of which a format says nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "compress/quantize.h"
#include "compress/testing.h"

namespace mobe {
namespace {

TEST(WrittenFormatTest, LowRankBasesAgainstTheTable) {
  struct Case {
    const char* message;
    void (*change)(std::vector<LooseTensor>* tensors);
    ErrorKind kind = ErrorKind::kCorruptFile;
  };
  static constexpr auto kRight = "model.layers.2.mlp.B_down_V";
  const Case cases[] = {
      {"tensor model.layers.2.mlp.B_down_U has shape [32, 3, 8], expected [3, "
       "32, 8] by config.json",
       [](auto* t) {
         TensorOf(*t, "model.layers.2.mlp.B_down_U").shape = {32, 3, 8};
       }},
      {"tensor model.layers.2.mlp.B_down_V has shape [3, 512], expected [3, 8, "
       "64] by config.json",
       [](auto* t) {
         TensorOf(*t, kRight).shape = {3, 512};
       }},
      {"no tensor model.layers.2.mlp.B_down_V, expected one of shape [3, 8, "
       "64]",
       [](auto* t) {
         std::erase_if(*t, [](auto& x) { return x.name == kRight; });
       },
       ErrorKind::kMissing},
      {"tensor model.layers.2.mlp.W_down has shape [3, 16], expected [16, 3]",
       [](auto* t) {
         TensorOf(*t, "model.layers.2.mlp.W_down").shape = {3, 16};
       }},
      // A dense down where A is expected.
      {"tensor model.layers.2.mlp.experts.4.down_proj.weight has shape [64, "
       "32], expected [32, 32]",
       [](auto* t) {
         auto& down =
             TensorOf(*t, "model.layers.2.mlp.experts.4.down_proj.weight");
         down.shape = {64, 32};
         down.data.resize(down.bytes());
       }},
  };
  CompressOptions options = QuickOptions(3);
  options.kinds = {&kDownKind};
  options.basis_rank = 8;
  TempFolder folder;
  RunCompress(SmallModel(), options, folder.path());
  const auto sound = ReadTensors(folder / "model.safetensors");
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    auto tensors = sound;
    c.change(&tensors);
    WriteTensors(folder / "model.safetensors", tensors);
    ExpectError(c.kind, c.message, [&] { OpenModel(folder.path()); });
  }
}

// The tensors of each expert fill the bytes between the first and the last of
// them.
void ExpectWholeExperts(const std::filesystem::path& path) {
  struct Extent {
    const std::byte* begin = nullptr;
    const std::byte* end = nullptr;
    size_t bytes = 0;
    int64_t tensors = 0;
  };
  std::map<std::string, Extent> experts;
  const SafetensorsFile file(path);
  for (const TensorView& tensor : file.tensors()) {
    constexpr std::string_view kExperts = ".experts.";
    const size_t at = tensor.name.find(kExperts);
    if (at == std::string::npos) continue;
    const size_t end = tensor.name.find('.', at + kExperts.size());
    Extent& extent = experts[tensor.name.substr(0, end)];
    const std::byte* begin = tensor.data.data();
    if (extent.tensors++ == 0) extent = {begin, begin, 0, 1};
    extent.begin = std::min(extent.begin, begin);
    extent.end = std::max(extent.end, begin + tensor.data.size());
    extent.bytes += tensor.data.size();
  }
  EXPECT_FALSE(experts.empty());
  for (const auto& [name, extent] : experts) {
    EXPECT_GE(extent.tensors, 3) << name;
    EXPECT_EQ(extent.end - extent.begin, static_cast<ptrdiff_t>(extent.bytes))
        << name;
  }
}

TEST(WrittenFormatTest, ExpertsLieInOnePiece) {
  const TempFolder factored;
  RunCompress(SmallModel(), QuickOptions(3), factored.path());
  ExpectWholeExperts(factored / "model.safetensors");
  for (const std::filesystem::path& model : {SmallModel(), factored.path()}) {
    const TempFolder out;
    QuantizeOptions options;
    options.rule.format = &RowOf(NumberFormat::kInt4);
    options.shard_bytes = 100'000'000;
    Quantize(OpenModel(model), out.path(), options,
             [](const ProgressEvent&) {});
    ExpectWholeExperts(out / "model.safetensors");
  }
}

}  // namespace
}  // namespace mobe
