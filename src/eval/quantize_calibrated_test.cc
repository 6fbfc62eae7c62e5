// Quantising with a calibration: what it gains, and the job around it.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "compress/quantize.h"
#include "compress/testing.h"
#include "fit/weighted_solve.h"
#include "io/fp8.h"
#include "mobe/input_moments_file.h"
#include "mobe/mixed_model.h"
#include "mobe/moments_file.h"
#include "mobe/parts.h"
#include "model/model.h"
#include "model/moments.h"
#include "model/test_models.h"

namespace mobe::quantize_calibrated_test {
namespace {

namespace fs = std::filesystem;

constexpr auto kSilent = [](const ProgressEvent&) {};
constexpr int64_t kContext = 16;

const std::vector<int32_t>& TokenIds() {
  static const std::vector<int32_t> ids = {1,  5,  9,  2, 8, 3, 3, 7,
                                           11, 40, 41, 1, 6, 2, 10};
  return ids;
}

Calibration CalibrationFor(const OpenedModel& model, const std::string& hash,
                           int* collected = nullptr) {
  return {
      std::ssize(TokenIds()), hash,
      [&model, collected](const fs::path& file, const ProgressFn& progress) {
        if (collected != nullptr) ++*collected;
        CollectMoments(model, {TokenIds(), kContext}, CalibrationScope::kAll,
                       file, progress);
      }};
}

QuantizeOptions Int4(std::optional<Calibration> calibration) {
  return {
      {FormatFromName("int4"), {}}, 1 << 16, nullptr, std::move(calibration)};
}

// What a matrix reads: the moment of its input, or of its expert's.
Buffer<float> MomentOf(const OpenedModel& model, const fs::path& moments,
                       const TensorSpec& spec) {
  if (spec.expert < 0) {
    return InputMoments(moments, model.config).Of(spec).moment;
  }
  Buffer<float> moment;
  FitTarget target;
  target.experts = model.config.num_experts;
  target.cols = spec.shape[1];
  LoadMoments(moments, spec.layer, kGateKind, &target);
  ExpertMoment(target, spec.expert, &moment);
  return moment;
}

// Mean squares of what the products of the matrices of `folder` lost. Down
// alone is left out, which is moved before it is rounded, and A.
double WeightedLoss(const OpenedModel& model, const fs::path& moments,
                    const fs::path& folder) {
  const OpenedModel quantised = OpenModel(folder);
  double loss = 0;
  for (const TensorSpec& spec : model.tensors) {
    const TensorView& after = quantised.checkpoint.At(spec.name);
    if (after.packed == nullptr || spec.shape.size() != 2) continue;
    if (spec.expert >= 0 && (model.mobe || spec.role == Role::kExpertDown)) {
      continue;
    }
    const Buffer<float> moment = MomentOf(model, moments, spec);
    if (moment.size() == 0) continue;
    const int64_t cols = spec.shape[1];
    std::vector<float> off(static_cast<size_t>(after.elements()));
    std::vector<float> given(off.size());
    LoadFloats(after, off.data());
    LoadFloats(model.checkpoint.At(spec.name), given.data());
    for (size_t i = 0; i < off.size(); ++i) off[i] -= given[i];
    for (const float* row = off.data(); row < off.data() + off.size();
         row += cols) {
      for (int64_t i = 0; i < cols; ++i) {
        for (int64_t j = 0; j < cols; ++j) {
          loss += double{row[i]} * moment[i * cols + j] * row[j];
        }
      }
    }
  }
  return loss;
}

TEST(QuantizeCalibratedTest, LosesLessOfWhatIsRead) {
  for (const char* name : {"qwen3_moe", "kimi_k2_mobe", "deepseek_v2"}) {
    SCOPED_TRACE(name);
    const OpenedModel model = OpenModel(Fixture("models") / name);
    const TempFolder folder;
    Quantize(model, folder / "even", Int4({}), kSilent);
    Quantize(model, folder / "read", Int4(CalibrationFor(model, "hash")),
             kSilent);
    EXPECT_FALSE(fs::exists(folder / "read" / ".mobe"));
    CollectMoments(model, {TokenIds(), kContext}, CalibrationScope::kAll,
                   folder / "moments", kSilent);
    EXPECT_LT(WeightedLoss(model, folder / "moments", folder / "read"),
              0.8 * WeightedLoss(model, folder / "moments", folder / "even"));
  }
}

double LogitsOff(const fs::path& model, const fs::path& folder) {
  const auto logits = [](const fs::path& of) {
    return RunModel(Model::Load(of, LoadOptions{}), TokenIds(),
                    std::ssize(TokenIds()));
  };
  return RelativeDistance(logits(folder), logits(model));
}

// Of what logits are off where a text is read, over what they are without one.
double ShareOff(const fs::path& path, const OpenedModel& model,
                QuantizeOptions options) {
  const TempFolder folder;
  Quantize(model, folder / "even", options, kSilent);
  options.calibration = CalibrationFor(model, "hash");
  Quantize(model, folder / "read", options, kSilent);
  return LogitsOff(path, folder / "read") / LogitsOff(path, folder / "even");
}

// Down, which is fitted to what it reads then, and A, which is solved again for
// rounded bases: in all the model comes nearer.
TEST(QuantizeCalibratedTest, LogitsComeNearer) {
  const auto part = [](const char* name) { return QuantPartFromName(name); };
  const FormatRow* int3 = FormatFromName("int3");
  for (const char* name : {"qwen3_moe", "qwen3_mobe", "kimi_k2_mobe"}) {
    SCOPED_TRACE(name);
    const fs::path path = Fixture("models") / name;
    const OpenedModel model = OpenModel(path);
    QuantizeOptions options{
        {int3, {part("a"), part("down"), part("bases")}}, 1 << 20, {}};
    if (!model.mobe) options.rule.parts.pop_back();
    EXPECT_LT(ShareOff(path, model, options), 0.8);
  }
}

// Where A stays as it is, bases don't move away from it.
TEST(QuantizeCalibratedTest, BasesAloneStayNear) {
  for (const char* name : {"qwen3_mobe", "kimi_k2_mobe"}) {
    SCOPED_TRACE(name);
    const fs::path path = Fixture("models") / name;
    const OpenedModel model = OpenModel(path);
    QuantizeOptions options{
        {FormatFromName("int4"), {QuantPartFromName("bases")}}, 1 << 20, {}};
    EXPECT_LT(ShareOff(path, model, options), 1.2);
  }
}

// Stopped after any tensor, the same call goes on with what it has read of the
// text, to the same bytes; with another text it is refused.
TEST(QuantizeCalibratedTest, GoesOn) {
  const OpenedModel model = OpenModel(Fixture("models") / "qwen3_moe");
  const TempFolder folder;
  int collected = 0;
  Quantize(model, folder / "whole", Int4(CalibrationFor(model, "hash")),
           kSilent);
  QuantizeOptions stopping = Int4(CalibrationFor(model, "hash", &collected));
  int asked = 0;
  stopping.stop = [&] { return ++asked > 60; };
  EXPECT_THROW(Quantize(model, folder / "out", stopping, kSilent), Stopped);
  ExpectError(ErrorKind::kUserInput,
              "another option (calibrate: \"hash\", now \"other\")", [&] {
                Quantize(model, folder / "out",
                         Int4(CalibrationFor(model, "other")), kSilent);
              });
  Quantize(model, folder / "out",
           Int4(CalibrationFor(model, "hash", &collected)), kSilent);
  EXPECT_EQ(collected, 1);
  ExpectSameFiles(folder / "whole", folder / "out");
}

// The text is of use where down alone is factored, too: to round the others.
TEST(QuantizeCalibratedTest, CompressRoundsWhatItDoesNotFactor) {
  const OpenedModel model = OpenModel(SmallModel());
  const TempFolder folder;
  CompressOptions options = QuickOptions(2);
  options.kinds = {&kDownKind};
  options.pack = PackRule{FormatFromName("int3"), {QuantPartFromName("a")}, {}};
  RunCompress(SmallModel(), options, folder / "even");
  options.calibration = CalibrationFor(model, "hash");
  RunCompress(SmallModel(), options, folder / "read");
  CollectMoments(model, {TokenIds(), kContext}, CalibrationScope::kAll,
                 folder / "moments", kSilent);
  EXPECT_LT(WeightedLoss(model, folder / "moments", folder / "read"),
            0.8 * WeightedLoss(model, folder / "moments", folder / "even"));
  options.pack = {};
  ExpectError(ErrorKind::kUserInput, "for --kinds down without --format",
              [&] { CheckOptions(model, options); });
}

// compress --format is compress, and then quantize --factored; from parts, too.
TEST(QuantizeCalibratedTest, CompressRoundsByItsText) {
  const OpenedModel model = OpenModel(SmallModel());
  const TempFolder folder;
  CompressOptions options = QuickOptions(2);
  options.calibration = CalibrationFor(model, "hash");
  RunCompress(SmallModel(), options, folder / "factored");
  const OpenedModel mixed =
      MixModels(OpenModel(SmallModel()), OpenModel(folder / "factored"));
  QuantizeOptions second = Int4(options.calibration);
  second.mixed = &mixed;
  Quantize(model, folder / "twice", second, kSilent);

  options.pack = second.rule;
  options.shard_bytes = second.shard_bytes;
  RunCompress(SmallModel(), options, folder / "once");
  ExpectSameFiles(folder / "twice", folder / "once", TellsHow);

  std::vector<fs::path> parts;
  for (int64_t i = 0; i < 2; ++i) {
    options.share = Share{i, 2};
    parts.push_back(folder / fmt::format("part{}", i));
    RunCompress(SmallModel(), options, parts.back());
  }
  options.share = {};
  Merge(model, PlanCompression(model, options), parts, folder / "merged",
        kSilent);
  ExpectSameFiles(folder / "once", folder / "merged", TellsHow);
}

}  // namespace
}  // namespace mobe::quantize_calibrated_test
