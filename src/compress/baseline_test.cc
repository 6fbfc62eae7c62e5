#include "compress/baseline.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "compress/testing.h"

namespace mobe {
namespace {

TEST(BaselineJobTest, WritesAPlainModelWithinTheBudget) {
  const OneThread one_thread;
  const TempFolder folder;
  const OpenedModel model = OpenModel(SmallModel());
  CompressOptions options = QuickOptions(2);
  options.last_layer = 1;
  const CompressPlan plan = PlanCompression(model, options);
  for (const Method* method : Baselines()) {
    const Method& baseline = *method;
    const BaselineSize size = SizeBaseline(plan, baseline);
    EXPECT_LE(size.factor_bytes, size.mobe_factor_bytes);
    EXPECT_GT(size.factor_bytes, size.mobe_factor_bytes * 9 / 10);
    EXPECT_GT(size.operations, 0);
    EXPECT_GT(size.fit_bytes, 0);
    const auto out = folder / baseline.name;
    const CompressReport report = CompressByBaseline(
        model, plan, baseline, out, [](const ProgressEvent&) {});
    ASSERT_EQ(report.matrices.size(), 2u);
    EXPECT_GT(report.mse_scaled_mean, 0.01);
    EXPECT_LT(report.mse_scaled_mean, 1);
    const OpenedModel written = OpenModel(out);
    EXPECT_FALSE(written.mobe);
    EXPECT_EQ(written.checkpoint.config(), model.checkpoint.config());
    for (const TensorSpec& spec : model.tensors) {
      const bool approximated =
          spec.layer == 1 &&
          (spec.role == Role::kExpertGate || spec.role == Role::kExpertUp);
      const auto a = model.checkpoint.At(spec.name).data;
      const auto b = written.checkpoint.At(spec.name).data;
      EXPECT_EQ(std::ranges::equal(a, b), !approximated) << spec.name;
    }
    const auto before = Contents(out);
    const CompressReport again = CompressByBaseline(
        model, plan, baseline, out, [](const ProgressEvent&) {});
    EXPECT_TRUE(again.already);
    EXPECT_EQ(again.mse_scaled_mean, report.mse_scaled_mean);
    EXPECT_EQ(Contents(out), before);
    const Method& other = method == &kSvd ? kD2Moe : kSvd;
    ExpectError(ErrorKind::kUserInput, "holds a model made by another command",
                [&] {
                  CompressByBaseline(model, plan, other, out,
                                     [](const ProgressEvent&) {});
                });
  }
}

TEST(BaselineJobTest, RefusesACalibrationThatItWouldIgnore) {
  const OpenedModel model = OpenModel(SmallModel());
  CompressOptions options = QuickOptions(2);
  options.calibration = Calibration{1, "x", nullptr};
  const CompressPlan plan = PlanCompression(model, options);
  ExpectError(ErrorKind::kUserInput, "molae makes no use of --calibrate",
              [&] { SizeBaseline(plan, *FindMethod("molae")); });
}

}  // namespace
}  // namespace mobe
