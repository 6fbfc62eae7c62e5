#include "compress/bit_choice.h"

#include <gmock/gmock.h>

#include <set>
#include <span>
#include <utility>
#include <vector>

#include "compress/quantize.h"
#include "compress/testing.h"
#include "compress/verify.h"
#include "eval/damage.h"
#include "mobe/mixed_model.h"
#include "model/moments.h"

namespace mobe::bit_choice_test {
namespace {

namespace fs = std::filesystem;

constexpr auto kSilent = [](const ProgressEvent&) {};
constexpr int64_t kContext = 16;
constexpr int64_t kOtherBases = 3;

const std::vector<int32_t>& SomeTokens() {
  static const std::vector<int32_t> ids = {1,  5,  9,  2, 8, 3, 3, 7,
                                           11, 40, 41, 1, 6, 2, 10};
  return ids;
}

class BitChoiceTest : public ::testing::Test {
 protected:
  BitChoiceTest() : plain_(OpenModel(Plain())) {
    RunCompress(Plain(), QuickOptions(kOtherBases), OtherFactored());
    for (const fs::path& path : {Factored(), OtherFactored()}) {
      factored_.push_back(MixModels(OpenModel(Plain()), OpenModel(path)));
    }
    CollectMoments(plain_, {SomeTokens(), kContext}, CalibrationScope::kAll,
                   Moments(), kSilent);
  }

  static fs::path Plain() { return Fixture("models") / "qwen3_moe"; }
  static fs::path Factored() { return Fixture("models") / "qwen3_mobe"; }
  fs::path OtherFactored() const { return folder_ / "factored"; }
  fs::path Moments() const { return folder_ / "moments"; }

  // Among so many of the factored forms.
  BitChoice Choose(int64_t bytes, size_t forms) const {
    const DamageFn damage = [&](const std::vector<LayerKind>& matrices,
                                const ReplaceFn& replace,
                                const ProgressFn& progress) {
      return MeasureDamage(plain_, {SomeTokens(), kContext}, matrices, replace,
                           progress);
    };
    return ChooseBits(plain_, std::span(factored_).first(forms),
                      {FormatFromName("int8"), {}, {}}, bytes, Moments(),
                      damage, kSilent);
  }

  QuantizeOptions OptionsOf(const BitChoice& choice) const {
    QuantizeOptions options{
        {FormatFromName("int8"), {}, choice.formats}, int64_t{1} << 30, {}};
    options.calibration = Calibration{
        std::ssize(SomeTokens()), "hash",
        [this](const fs::path& file, const ProgressFn&) {
          fs::copy_file(Moments(), file, fs::copy_options::overwrite_existing);
        }};
    return options;
  }

  const TempFolder folder_;
  const OpenedModel plain_;
  std::vector<OpenedModel> factored_;
};

// The bytes that it tells are those of the model that is written, within what
// was asked for; more of them never do more damage; too few are refused.
TEST_F(BitChoiceTest, KeepsToItsBytes) {
  const int64_t whole = plain_.checkpoint.bytes();
  double last = 1e9;
  std::set<int64_t> sizes;
  for (const double share : {0.34, 0.38, 0.45, 0.6}) {
    const auto bytes = static_cast<int64_t>(share * static_cast<double>(whole));
    const BitChoice choice = Choose(bytes, 0);
    EXPECT_LE(choice.bytes, bytes);
    EXPECT_LE(choice.divergence, last);
    last = choice.divergence;
    sizes.insert(choice.bytes);
    const TempFolder out;
    const auto report = Quantize(plain_, out / "q", OptionsOf(choice), kSilent);
    EXPECT_EQ(report->bytes_out, choice.bytes);
  }
  EXPECT_GT(sizes.size(), 2);
  ExpectError(ErrorKind::kUserInput, "are the least", [&] {
    CheckBytes(plain_, {}, {FormatFromName("int8"), {}, {}}, whole / 20);
  });
}

// With factors at hand it expects no more damage, with two fits less than with
// one; what it writes is a factored model where it took them, of which verify
// finds no fault.
TEST_F(BitChoiceTest, TakesFactorsWhereTheyAreBetter) {
  const auto bytes = static_cast<int64_t>(
      0.36 * static_cast<double>(plain_.checkpoint.bytes()));
  const BitChoice plain = Choose(bytes, 0);
  const BitChoice one = Choose(bytes, 1);
  const BitChoice choice = Choose(bytes, 2);
  EXPECT_THAT(plain.factored_layers, testing::IsEmpty());
  // They are off by a tenth: less than matrices in 2 bits.
  EXPECT_THAT(one.factored_layers, testing::SizeIs(testing::Gt(0)));
  EXPECT_LT(one.divergence, plain.divergence);
  EXPECT_LE(choice.divergence, one.divergence);
  std::vector<FactoredLayers> factored;
  factored.push_back({OpenModel(Factored()), {}});
  factored.push_back({OpenModel(OtherFactored()), {}});
  for (const auto& [layer, which] : choice.factored_layers) {
    factored[which].layers.insert(layer);
  }
  const OpenedModel mixed = MixModels(OpenModel(Plain()), std::move(factored));
  QuantizeOptions options = OptionsOf(choice);
  options.mixed = &mixed;
  const TempFolder out;
  const auto report = Quantize(plain_, out / "q", options, kSilent);
  EXPECT_EQ(report->bytes_out, choice.bytes);
  const OpenedModel written = OpenModel(out / "q");
  for (int64_t layer = 0; layer < plain_.config.num_layers; ++layer) {
    EXPECT_EQ(written.Factored(layer, kGateKind) != nullptr,
              choice.factored_layers.contains(layer));
  }
  EXPECT_THAT(Verify(out / "q", plain_, kSilent).faults, testing::IsEmpty());
}

// Each layer as its own folder has it.
TEST_F(BitChoiceTest, MixesSeveral) {
  const OpenedModel first = OpenModel(Factored());
  const OpenedModel second = OpenModel(OtherFactored());
  const std::vector<int64_t> layers = first.mobe->Layers();
  ASSERT_EQ(layers.size(), 2);
  ASSERT_NE(first.Factored(layers[0], kUpKind)->num_bases, kOtherBases);
  std::vector<FactoredLayers> factored;
  factored.push_back({OpenModel(OtherFactored()), {layers[1]}});
  factored.push_back({OpenModel(Factored()), {layers[0]}});
  const OpenedModel mixed = MixModels(OpenModel(Plain()), std::move(factored));
  for (const auto& [layer, source] :
       {std::pair(layers[0], &first), std::pair(layers[1], &second)}) {
    EXPECT_EQ(*mixed.Factored(layer, kUpKind),
              *source->Factored(layer, kUpKind));
    const auto bytes = [layer = layer](const OpenedModel& model) {
      const auto data = model.At(kUpKind.bases, layer).data;
      return std::vector(data.begin(), data.end());
    };
    EXPECT_EQ(bytes(mixed), bytes(*source));
  }
}

TEST_F(BitChoiceTest, RefusesWhatCannotBeMixed) {
  ExpectError(ErrorKind::kUserInput, "is factored already",
              [] { MixModels(OpenModel(Factored()), OpenModel(Factored())); });
  ExpectError(ErrorKind::kUserInput, "is no factored form of", [] {
    MixModels(OpenModel(Plain()),
              OpenModel(Fixture("models") / "kimi_k2_mobe"));
  });
  CompressOptions tanh = QuickOptions(kOtherBases);
  tanh.activation = Activation::kTanh;
  RunCompress(Plain(), tanh, folder_ / "tanh");
  ExpectError(ErrorKind::kUserInput, "tanh has tanh between bases and A, ",
              [&] {
                std::vector<FactoredLayers> factored;
                factored.push_back({OpenModel(folder_ / "tanh"), {0}});
                factored.push_back({OpenModel(Factored()), {1}});
                MixModels(OpenModel(Plain()), std::move(factored));
              });
}

}  // namespace
}  // namespace mobe::bit_choice_test
