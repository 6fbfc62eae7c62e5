// Quantising with a calibration: what it gains, and the job around it.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "compress/quantize.h"
#include "compress/testing.h"
#include "io/fp8.h"
#include "mobe/input_squares_file.h"
#include "model/input_squares.h"

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
        CollectInputSquares(model, {TokenIds(), kContext}, file, progress);
      }};
}

QuantizeOptions Int4(std::optional<Calibration> calibration) {
  return {
      {FormatFromName("int4"), {}}, 1 << 16, nullptr, std::move(calibration)};
}

// Squares of what the matrices of `folder` lost, weighed by what they read.
double WeightedLoss(const OpenedModel& model, const InputSquares& squares,
                    const fs::path& folder) {
  const OpenedModel quantised = OpenModel(folder);
  double loss = 0;
  for (const TensorSpec& spec : model.tensors) {
    const Buffer<float> importance = squares.ImportanceOf(spec);
    if (importance.size() == 0) continue;
    const TensorView& before = model.checkpoint.At(spec.name);
    const TensorView& after = quantised.checkpoint.At(spec.name);
    std::vector<float> a(static_cast<size_t>(before.elements()));
    std::vector<float> b(a.size());
    LoadFloats(before, a.data());
    LoadFloats(after, b.data());
    for (size_t i = 0; i < a.size(); ++i) {
      const double off = double{a[i]} - b[i];
      loss +=
          importance[static_cast<int64_t>(i) % importance.size()] * off * off;
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
    CollectInputSquares(model, {TokenIds(), kContext}, folder / "squares",
                        kSilent);
    const InputSquares squares(folder / "squares", model);
    EXPECT_LT(WeightedLoss(model, squares, folder / "read"),
              0.99 * WeightedLoss(model, squares, folder / "even"));
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
  for (const auto& entry : fs::directory_iterator(folder / "whole")) {
    const auto file = entry.path().filename();
    EXPECT_EQ(ReadSmallFile(folder / "out" / file), ReadSmallFile(entry.path()))
        << file;
  }
}

}  // namespace
}  // namespace mobe::quantize_calibrated_test
