#include "compress/estimate.h"

#include <gtest/gtest.h>

#include "base/disk.h"
#include "compress/job_queue.h"
#include "compress/testing.h"
#include "fit/method.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

TEST(MakespanTest, IsOfTheLastWorker) {
  EXPECT_DOUBLE_EQ(Makespan({3, 1, 2}, 1), 6);
  EXPECT_DOUBLE_EQ(Makespan({3, 1, 2}, 2), 3);
  EXPECT_DOUBLE_EQ(Makespan({3, 1, 2}, 9), 3);
  EXPECT_DOUBLE_EQ(Makespan({}, 2), 0);
  EXPECT_DOUBLE_EQ(Makespan({2, 2, 2, 2, 2}, 2), 6);  // one works longer
}

TEST(JobSpeedTest, AddsUp) {
  JobSpeed speed;
  speed.first.seconds = {10, 2, 0};
  speed.units = 3;
  speed.read_seconds = 5;
  speed.write_seconds = 7;
  EXPECT_DOUBLE_EQ(speed.Seconds(100), 5 + 7 + 3 * (10 + 200));
  JobSpeed calibrated = speed;
  calibrated.text_seconds = 4;
  EXPECT_DOUBLE_EQ(calibrated.Seconds(100), speed.Seconds(100) + 4);
  EXPECT_EQ(PassesOf({40, 0}, speed, 1e9), 40);
  // 20 s are spent, 7 will be by writing.
  EXPECT_EQ(PassesOf({0, 20 + 7 + 3 * (10 + 200)}, speed, 20), 100);
}

// Followed at every step, the folder never holds more, and nearly as much.
TEST(DiskBytesTest, IsTheMostThatTheFolderHolds) {
  for (const int64_t shard_bytes : {60'000, 150'000, 100'000'000}) {
    CompressOptions options = QuickOptions(4);
    options.shard_bytes = shard_bytes;
    const OpenedModel model = OpenModel(SmallModel());
    const CompressPlan plan = PlanCompression(model, options);
    const TempFolder out;
    int64_t most = 0;
    RunCompress(SmallModel(), options, out.path(), [&](const ProgressEvent&) {
      most = std::max(most, BytesBelow(out.path()));
    });
    most = std::max(most, BytesBelow(out.path()));
    const int64_t expected = DiskBytes(plan, 1);
    EXPECT_LE(most, expected) << shard_bytes;
    EXPECT_GE(expected, plan.bytes_out) << shard_bytes;
    // Shards and the factors that wait for theirs; the last of them are gone
    // before progress tells.
    EXPECT_LE(expected, 2 * plan.bytes_out + 3'000'000) << shard_bytes;
    EXPECT_GT(DiskBytes(plan, 4), expected);
  }
}

// One shard for all: every factor waits for it. One for each tensor: none does.
TEST(DiskBytesTest, SmallShardsSaveDisk) {
  const OpenedModel model = OpenModel(SmallModel());
  CompressOptions options = QuickOptions(4);
  const CompressPlan whole = PlanCompression(model, options);
  options.shard_bytes = 1000;
  const CompressPlan pieces = PlanCompression(model, options);
  int64_t factors = 0;
  for (const FactorJob& job : whole.jobs) {
    for (const TensorDecl& tensor : job.tensors) factors += tensor.bytes();
  }
  EXPECT_GE(DiskBytes(whole, 1), whole.bytes_out + factors);
  EXPECT_EQ(DiskBytes(whole, 1) - DiskBytes(pieces, 1),
            factors - factors / static_cast<int64_t>(whole.jobs.size()));
}

TEST(EstimateTest, OfAShareAndOfRanks) {
  const OneThread one_thread;
  const OpenedModel model = OpenModel(SmallModel());
  CompressOptions options = QuickOptions(4);
  const TempFolder out;
  const auto estimate = [&](int64_t workers) {
    return EstimateCompression(model, PlanCompression(model, options),
                               out.path(), workers);
  };
  const JobEstimate one = estimate(1);
  EXPECT_EQ(one.passes, 2);
  EXPECT_DOUBLE_EQ(one.speed.units, 4);
  EXPECT_GT(one.seconds, 0);
  EXPECT_GT(one.operations, 0);
  EXPECT_GT(one.process_bytes, 1'000'000);
  EXPECT_GT(one.peak_memory_bytes, one.process_bytes + one.mapped_bytes);
  EXPECT_EQ(one.warning, "");
  EXPECT_TRUE(fs::is_empty(out.path()));
  EXPECT_DOUBLE_EQ(estimate(2).speed.units, 2);
  EXPECT_DOUBLE_EQ(estimate(3).speed.units, 2);
  options.share = Share{0, 2};
  const JobEstimate half = estimate(1);
  EXPECT_DOUBLE_EQ(half.speed.units, 2);
  EXPECT_DOUBLE_EQ(half.operations, one.operations / 2);
  EXPECT_LT(half.disk_bytes, one.disk_bytes);
}

// One group is measured, and in memory, at a time.
TEST(EstimateTest, OfGroups) {
  const OneThread one_thread;
  const OpenedModel model = OpenModel(SmallModel());
  CompressOptions options = QuickOptions(4);
  const TempFolder out;
  const auto plan = [&](int64_t groups) {
    options.groups = groups;
    return PlanCompression(model, options);
  };
  EXPECT_LT(plan(2).fit_bytes, plan(1).fit_bytes);
  const JobEstimate two = EstimateCompression(model, plan(2), out.path(), 1);
  EXPECT_DOUBLE_EQ(two.speed.units, 8);
  EXPECT_LE(two.speed.first.experts, 8);
  FitShape half{8, 32, 64, 32, 2};
  EXPECT_DOUBLE_EQ(two.operations, 8 * kFastSolver.operations(half).Total(2));
}

TEST(EstimateTest, OnlyWhatIsLeft) {
  const OneThread one_thread;
  const OpenedModel model = OpenModel(SmallModel());
  CompressOptions options = QuickOptions(4);
  const TempFolder out;
  int64_t calls = 0;
  options.stop = [&] { return ++calls > 8; };
  EXPECT_THROW(Compress(
                   model, PlanCompression(model, options), out.path(),
                   [](const ProgressEvent&) {}, nullptr),
               Stopped);
  options.stop = nullptr;
  const CompressPlan plan = PlanCompression(model, options);
  const auto before = Contents(out.path());
  const JobEstimate rest = EstimateCompression(model, plan, out.path(), 1);
  EXPECT_LT(rest.speed.units, 4);
  EXPECT_GT(rest.speed.units, 0);
  EXPECT_EQ(Contents(out.path()), before);
}

}  // namespace
}  // namespace mobe
