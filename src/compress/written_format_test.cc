// Version 2 of the native format as compress writes it: each change to it is
// refused when it is opened. mobe/format_test.cc has what the reference writes.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "compress/testing.h"

namespace mobe {
namespace {

TEST(WrittenFormatTest, LowRankBasesAgainstTheTable) {
  struct Case {
    const char* message;
    void (*change)(std::vector<LooseTensor>* tensors);
    ErrorKind kind = ErrorKind::kCorruptFile;
  };
  static constexpr auto v = "model.layers.2.mlp.B_down_V";
  const Case cases[] = {
      {"tensor model.layers.2.mlp.B_down_U has shape [32, 3, 8], expected [3, "
       "32, 8] by config.json",
       [](auto* t) {
         TensorOf(*t, "model.layers.2.mlp.B_down_U").shape = {32, 3, 8};
       }},
      {"tensor model.layers.2.mlp.B_down_V has shape [3, 512], expected [3, 8, "
       "64] by config.json",
       [](auto* t) {
         TensorOf(*t, v).shape = {3, 512};
       }},
      {"no tensor model.layers.2.mlp.B_down_V, expected one of shape [3, 8, "
       "64]",
       [](auto* t) { std::erase_if(*t, [](auto& x) { return x.name == v; }); },
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

}  // namespace
}  // namespace mobe
