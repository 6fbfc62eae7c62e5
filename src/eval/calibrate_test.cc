// Compressing with a calibration: what the fit gains, and the job around it.
#include <gtest/gtest.h>

#include <string>

#include "compress/compress.h"
#include "compress/testing.h"
#include "fit/method.h"
#include "model/moments.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

struct Halted {};

class CalibrateTest : public testing::Test {
 protected:
  std::string Hash() const { return CalibrationTokens{ids_, 16}.Hash(); }

  CompressOptions Options() { return Options(Hash()); }
  CompressOptions Options(const std::string& hash) {
    CompressOptions options = QuickOptions(2);
    options.calibration = Calibration{
        static_cast<int64_t>(ids_.size()), hash,
        [this](const fs::path& file, const ProgressFn& progress) {
          ++collected_;
          CollectMoments(model_, {ids_, 16}, CalibrationScope::kExperts, file,
                         progress);
        }};
    return options;
  }

  void Run(
      const CompressOptions& options, const char* out,
      const ProgressFn& progress = [](const ProgressEvent&) {}) {
    RunCompress(SmallModel(), options, folder_ / out, progress);
  }

  TempFolder folder_;
  OpenedModel model_ = OpenModel(SmallModel());
  std::vector<int32_t> ids_ = {1, 5, 9, 2, 8, 3, 3, 7, 11, 40, 41, 1, 6, 2, 10};
  int collected_ = 0;
};

TEST_F(CalibrateTest, ChangesTheFactorsAlone) {
  Run(Options(), "calibrated");
  Run(QuickOptions(2), "plain");
  EXPECT_EQ(collected_, 1);
  EXPECT_FALSE(fs::exists(folder_ / "calibrated" / ".mobe"));
  auto a = ReadTensors(folder_ / "calibrated" / "model.safetensors");
  auto b = ReadTensors(folder_ / "plain" / "model.safetensors");
  ASSERT_EQ(a.size(), b.size());
  for (LooseTensor& tensor : a) {
    if (tensor.name.find("mlp.W_") != std::string::npos) continue;  // may agree
    const auto has = [&](const char* part) {
      return tensor.name.find(part) != std::string::npos;
    };
    const bool is_factor =
        has("mlp.B_") ||
        (has(".experts.") && (has("gate_proj") || has("up_proj")));
    EXPECT_EQ(tensor.data != TensorOf(b, tensor.name).data, is_factor)
        << tensor.name;
  }
}

TEST_F(CalibrateTest, AStoppedJobContinuesWithItsMoments) {
  Run(Options(), "whole");
  EXPECT_EQ(collected_, 1);
  EXPECT_THROW(Run(Options(), "stopped",
                   [](const ProgressEvent& event) {
                     if (!event.line.empty()) throw Halted();
                   }),
               Halted);
  EXPECT_EQ(collected_, 2);
  ExpectError(ErrorKind::kUserInput,
              "another option (calibrate: \"" + Hash() + "\", now \"another\")",
              [&] { Run(Options("another"), "stopped"); });
  ExpectError(ErrorKind::kUserInput,
              "another option (calibrate: \"" + Hash() + "\", now \"\")",
              [&] { Run(QuickOptions(2), "stopped"); });
  Run(Options(), "stopped");
  EXPECT_EQ(collected_, 2);
  EXPECT_EQ(Contents(folder_ / "whole"), Contents(folder_ / "stopped"));
}

TEST_F(CalibrateTest, StoppedWhileCollectingItCollectsAgain) {
  EXPECT_THROW(Run(Options(), "out",
                   [](const ProgressEvent& event) {
                     if (event.what == "calibrating layer 2") throw Halted();
                   }),
               Halted);
  EXPECT_FALSE(fs::exists(folder_ / "out" / ".mobe" / "moments.safetensors"));
  Run(Options(), "out");
  EXPECT_EQ(collected_, 2);
}

TEST_F(CalibrateTest, GoesWithTheFastSolver) {
  CompressOptions options = Options();
  options.solver = &kReferenceSolver;
  ExpectError(ErrorKind::kUserInput, "--calibrate goes with --solver fast",
              [&] { PlanCompression(model_, options); });
}

}  // namespace
}  // namespace mobe
