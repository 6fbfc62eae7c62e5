// Interrupted jobs: what continues, what is refused, and that it shows nowhere.
#include "compress/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <set>
#include <string>

#include "base/sealed_json.h"
#include "compress/testing.h"
#include "fit/method.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

struct Interrupted {};

// Lets `calls` reports of progress pass, then throws. True when that came.
bool RunAtMost(int calls, const fs::path& model, const CompressOptions& options,
               const fs::path& out) {
  try {
    RunCompress(model, options, out, [&](const ProgressEvent&) {
      if (calls-- == 0) throw Interrupted();
    });
    return false;
  } catch (const Interrupted&) {
    return true;
  }
}

CompressOptions InSmallShards() {
  CompressOptions options = QuickOptions(4);
  options.shard_bytes = 150'000;
  return options;
}

TEST(JournalTest, InterruptedAnywhereGivesTheSameBytes) {
  TempFolder folder;
  RunCompress(SmallModel(), InSmallShards(), folder / "whole");
  const auto expected = Contents(folder / "whole");
  int64_t most_resumed = 0;
  int calls = 0;
  for (;; ++calls) {
    const fs::path out = folder / fmt::format("{}", calls);
    if (!RunAtMost(calls, SmallModel(), InSmallShards(), out)) break;
    EXPECT_FALSE(fs::exists(out / "config.json"));
    const CompressReport report =
        RunCompress(SmallModel(), InSmallShards(), out);
    most_resumed = std::max(most_resumed, report.resumed);
    EXPECT_EQ(report.matrices.size(), 4u);
    EXPECT_EQ(report.passes, 2);
    EXPECT_EQ(Contents(out), expected) << "interrupted after " << calls;
    fs::remove_all(out);
  }
  EXPECT_EQ(calls, 4 * (2 + 1));  // a report for each pass and each matrix
  EXPECT_EQ(most_resumed, 4);
}

// The same folder, again and again.
TEST(JournalTest, InterruptedOftenGivesTheSameBytes) {
  TempFolder folder;
  RunCompress(SmallModel(), InSmallShards(), folder / "whole");
  int runs = 1;
  // 7 calls: the reports of up to 4 finished matrices and a new one's passes.
  while (RunAtMost(6, SmallModel(), InSmallShards(), folder / "often")) ++runs;
  EXPECT_GT(runs, 2);
  EXPECT_EQ(Contents(folder / "often"), Contents(folder / "whole"));
}

TEST(JournalTest, InterruptedVariantsGiveTheSameBytes) {
  CompressOptions options = InSmallShards();
  options.kinds = {&kGateKind, &kDownKind};
  options.basis_rank = 3;
  options.max_alphas = 2;
  options.budget = {12, 0};
  TempFolder folder;
  RunCompress(SmallModel(), options, folder / "whole");
  while (RunAtMost(17, SmallModel(), options, folder / "often")) {
  }
  EXPECT_EQ(Contents(folder / "often"), Contents(folder / "whole"));
}

// Factors stay on the disk only until the last shard that holds some of them is
// written: those of two layers at most, where a shard has tensors of both, of
// the three that there are.
TEST(JournalTest, DropsFactorsThatAreWritten) {
  TempFolder out;
  ptrdiff_t most = 0;
  RunCompress(
      Fixture("models/qwen3_next"), InSmallShards(), out.path(),
      [&](const ProgressEvent&) {
        ptrdiff_t factors = 0;
        for (const auto& entry : fs::directory_iterator(out / ".mobe")) {
          factors += entry.path().extension() == ".safetensors";
        }
        most = std::max(most, factors);
      });
  EXPECT_GE(most, 1);
  EXPECT_LE(most, 4);
}

// A job in `out` of the tiny model, with the first matrix finished.
void BeginJob(const fs::path& model, const fs::path& out) {
  ASSERT_TRUE(RunAtMost(3, model, QuickOptions(2), out));
}

TEST(JournalTest, RefusesOtherOptions) {
  struct Case {
    const char* message;
    void (*change)(CompressOptions*);
  };
  const Case cases[] = {
      {"another option (seed: 0, now 1)", [](auto* o) { o->seed = 1; }},
      {"another option (num_B: 2, now 3)", [](auto* o) { o->num_bases = 3; }},
      {"another option (alphas: 0, now 1)", [](auto* o) { o->max_alphas = 1; }},
      {"another option (basis_rank: 0, now 2)",
       [](auto* o) { o->basis_rank = 2; }},
      {"another option (rank: 8, now 6)", [](auto* o) { o->rank = 6; }},
      {"another option (matrices: [\"gate\",\"up\"], now [\"gate\"])",
       [](auto* o) { o->kinds = {&kGateKind}; }},
      {"another option (activation: \"silu\", now \"tanh\")",
       [](auto* o) { o->activation = Activation::kTanh; }},
      {"another option (solver: \"fast\", now \"reference\")",
       [](auto* o) { o->solver = &kReferenceSolver; }},
      {"another option (passes: 2, now 3)",
       [](auto* o) { o->budget.passes = 3; }},
      {"another option (seconds: 0.0, now 3.0)",
       [](auto* o) { o->budget.seconds = 3; }},
      {"another option (shard_bytes: 5000000000, now 1000)",
       [](auto* o) { o->shard_bytes = 1000; }},
  };
  TempFolder out;
  BeginJob(TinyModel(), out.path());
  const auto before = Contents(out.path());
  for (const Case& c : cases) {
    SCOPED_TRACE(c.message);
    CompressOptions options = QuickOptions(2);
    c.change(&options);
    ExpectError(ErrorKind::kUserInput,
                out.path().string() + ": holds a job begun with " + c.message,
                [&] { RunCompress(TinyModel(), options, out.path()); });
  }
  EXPECT_EQ(Contents(out.path()), before);
  EXPECT_EQ(RunCompress(TinyModel(), QuickOptions(2), out.path()).resumed, 1);
}

TEST(JournalTest, RefusesOtherInputs) {
  TempFolder folder;
  const fs::path model = folder / "model";
  CopyModel(TinyModel(), model);
  BeginJob(model, folder / "out");
  auto tensors = ReadTensors(model / "model.safetensors");
  tensors.back().data[0] ^= std::byte{1};
  WriteTensors(model / "model.safetensors", tensors);
  ExpectError(ErrorKind::kUserInput,
              "holds a job begun with another input (model.safetensors: ", [&] {
                RunCompress(model, QuickOptions(2), folder / "out");
              });

  fs::copy_file(TinyModel() / "model.safetensors", model / "model.safetensors",
                fs::copy_options::overwrite_existing);
  Json config = ReadConfig(model);
  config["rope_theta"] = 1;
  WriteConfig(model, config);
  ExpectError(ErrorKind::kUserInput, "another input (config.json: ", [&] {
    RunCompress(model, QuickOptions(2), folder / "out");
  });
}

TEST(JournalTest, ContinuesWhenOnlyTheTimeOfAnInputChanged) {
  TempFolder folder;
  const fs::path model = folder / "model";
  CopyModel(TinyModel(), model);
  BeginJob(model, folder / "out");
  const fs::path weights = model / "model.safetensors";
  fs::last_write_time(weights,
                      fs::last_write_time(weights) + std::chrono::hours(1));
  EXPECT_EQ(RunCompress(model, QuickOptions(2), folder / "out").resumed, 1);
}

TEST(JournalTest, OneProcessAtATime) {
  TempFolder out;
  const Json options = {{"seed", 1}};
  {
    const Journal first(out.path(), TinyModel(), options);
    ExpectError(ErrorKind::kUserInput, "another mobe is at work in this folder",
                [&] { Journal(out.path(), TinyModel(), options); });
  }
  Journal again(out.path(), TinyModel(), options);
  again.Remove();
  EXPECT_TRUE(fs::is_empty(out.path()));
}

TEST(JournalTest, RefusesFoldersOfOthers) {
  TempFolder out;
  WriteText(out / "mine.txt", "");
  ExpectError(ErrorKind::kUserInput, "the output folder already holds mine.txt",
              [&] { RunCompress(TinyModel(), QuickOptions(2), out.path()); });
  EXPECT_EQ(Contents(out.path()).size(), 1u);
  ExpectError(
      ErrorKind::kUserInput, "not a folder, expected a new or empty",
      [&] { RunCompress(TinyModel(), QuickOptions(2), out / "mine.txt"); });
}

TEST(JournalTest, AFinishedModelIsLeftAsItIs) {
  TempFolder folder;
  const fs::path out = folder / "out";
  const CompressReport first = RunCompress(TinyModel(), QuickOptions(2), out);
  EXPECT_FALSE(first.already);
  const auto before = Contents(out);
  for (const bool killed_at_the_end : {false, true}) {
    if (killed_at_the_end) WriteText(out / ".mobe/lock", "");
    const CompressReport again = RunCompress(TinyModel(), QuickOptions(2), out);
    EXPECT_TRUE(again.already);
    EXPECT_EQ(again.resumed, 2);
    EXPECT_EQ(again.passes, 2);
    EXPECT_EQ(again.mse_scaled_mean, first.mse_scaled_mean);
    EXPECT_EQ(Contents(out), before);
  }

  ExpectError(
      ErrorKind::kUserInput,
      out.string() + ": holds a model made with another option (num_B: 2, now ",
      [&] { RunCompress(TinyModel(), QuickOptions(3), out); });
  const fs::path model = folder / "model";
  CopyModel(TinyModel(), model);
  Json config = ReadConfig(model);
  config["rope_theta"] = 1;
  WriteConfig(model, config);
  ExpectError(ErrorKind::kUserInput, "another input (config.json: ", [&] {
    RunCompress(model, QuickOptions(2), out);
  });
  WriteText(out / "config.json", "{}");
  ExpectError(ErrorKind::kCorruptFile, "config.json: has SHA-256 ",
              [&] { RunCompress(TinyModel(), QuickOptions(2), out); });
}

// What is kept to go on from is what was written, or is made again.
TEST(JournalTest, DamageIsSaidAndMadeAgain) {
  TempFolder folder;
  CompressOptions options = InSmallShards();
  RunCompress(SmallModel(), options, folder / "whole");
  const auto expected = Contents(folder / "whole");
  std::set<std::string> damaged;
  for (const int calls : {5, 11}) {  // factors wait; shards are written
    const fs::path begun = folder / "begun";
    ASSERT_TRUE(RunAtMost(calls, SmallModel(), options, begun));
    for (const auto& [name, text] : Contents(begun)) {
      if (name == ".mobe/lock") continue;
      SCOPED_TRACE(fmt::format("{} after {} calls", name, calls));
      const fs::path out = folder / "out";
      fs::copy(begun, out, fs::copy_options::recursive);
      std::string bad = text;
      bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 4);
      WriteText(out / name, bad);
      if (name == ".mobe/job.json") {
        ExpectError(ErrorKind::kCorruptFile, "job.json: damaged",
                    [&] { RunCompress(SmallModel(), options, out); });
      } else {
        int warnings = 0;
        RunCompress(SmallModel(), options, out, [&](const ProgressEvent& e) {
          warnings += e.warning.empty() ? 0 : 1;
        });
        EXPECT_GE(warnings, 1);
        EXPECT_EQ(Contents(out), expected);
      }
      damaged.insert(fs::path(name).filename());
      fs::remove_all(out);
    }
    fs::remove_all(begun);
  }
  for (const char* kind : {"job.json", "checked.json", "layer-00001-gate.json",
                           "layer-00001-gate.safetensors"}) {
    EXPECT_TRUE(damaged.contains(kind)) << kind;
  }
  EXPECT_GE(std::ranges::count_if(damaged,
                                  [](const std::string& name) {
                                    return name.starts_with("model-");
                                  }),
            2);
}

TEST(JournalTest, DamagedPartsAreNotMerged) {
  TempFolder folder;
  CompressOptions options = QuickOptions(2);
  const OneThread one_thread;
  const OpenedModel model = OpenModel(TinyModel());
  options.share = Share{0, 1};
  RunCompress(TinyModel(), options, folder / "part");
  EXPECT_TRUE(RunCompress(TinyModel(), options, folder / "part").already);
  options.share.reset();
  const CompressPlan plan = PlanCompression(model, options);
  const auto merge = [&](const fs::path& part) {
    fs::remove_all(folder / "out");
    return Merge(model, plan, {part}, folder / "out",
                 [](const ProgressEvent&) {});
  };
  EXPECT_FALSE(merge(folder / "part").already);
  EXPECT_TRUE(Merge(model, plan, {folder / "part"}, folder / "out",
                    [](const ProgressEvent&) {})
                  .already);
  for (const auto& [name, text] : Contents(folder / "part")) {
    // These two are not read by the merge of a plan.
    if (name == ".mobe/lock" || name == ".mobe/checked.json" ||
        name == ".mobe/arguments.json") {
      continue;
    }
    SCOPED_TRACE(name);
    std::string bad = text;
    bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 1);
    WriteText(folder / "part" / name, bad);
    ExpectError(ErrorKind::kCorruptFile, (folder / "part" / name).string(),
                [&] { merge(folder / "part"); });
    WriteText(folder / "part" / name, text);
  }
}

// What a process left that was killed at any time is in nobody's way.
TEST(JournalTest, CleansWhatAKilledRunLeft) {
  TempFolder out;
  fs::create_directory(out / ".mobe");
  WriteText(out / ".mobe/job.json.mobe-tmp", "{");
  WriteText(out / ".mobe/layer-00000-gate.json", "of a job that is gone");
  WriteText(out / "model.safetensors.mobe-tmp", "half");
  RunCompress(TinyModel(), QuickOptions(2), out.path());
  TempFolder other;
  RunCompress(TinyModel(), QuickOptions(2), other.path());
  EXPECT_EQ(Contents(out.path()), Contents(other.path()));
}

// A link to itself stands for a disk that gives no answer for a moment: days of
// work are not begun anew for it.
TEST(JournalTest, WhatCannotBeReachedIsNotTakenForAbsent) {
  TempFolder folder;
  const fs::path out = folder / "out";
  ASSERT_TRUE(RunAtMost(7, SmallModel(), InSmallShards(), out));
  const auto before = Contents(out / ".mobe");
  const fs::path job = out / ".mobe/job.json";
  fs::rename(job, folder / "job.json");
  fs::create_symlink("job.json", job);
  ExpectError(ErrorKind::kUserInput, job.string() + ": cannot be reached: ",
              [&] { RunCompress(SmallModel(), InSmallShards(), out); });
  fs::rename(folder / "job.json", job);
  EXPECT_EQ(Contents(out / ".mobe"), before);
  EXPECT_GT(RunCompress(SmallModel(), InSmallShards(), out).resumed, 0);
}

TEST(JournalTest, NotAJournal) {
  const std::pair<std::string, const char*> cases[] = {
      {"{", "job.json: damaged, or changed: its checksum"},
      {"[]", "job.json: damaged"},
      {SealText("{}"), "not a journal of mobe"}};
  for (const auto& [text, message] : cases) {
    TempFolder out;
    fs::create_directory(out / ".mobe");
    WriteText(out / ".mobe/job.json", text);
    ExpectError(ErrorKind::kCorruptFile, message,
                [&] { RunCompress(TinyModel(), QuickOptions(2), out.path()); });
  }
}

TEST(JournalTest, Notes) {
  TempFolder out;
  {
    Journal journal(out.path(), TinyModel(), Json::object());
    EXPECT_TRUE(journal.Note("passes").is_null());
    journal.SetNote("passes", 7);
    EXPECT_TRUE(journal.Record(3, kUpKind).is_null());
    journal.Finish(3, kUpKind, {{"x", 1}});
  }
  const Journal journal(out.path(), TinyModel(), Json::object());
  EXPECT_EQ(journal.Note("passes"), 7);
  EXPECT_EQ(journal.Record(3, kUpKind), Json({{"x", 1}}));
  EXPECT_TRUE(journal.Record(3, kGateKind).is_null());
}

}  // namespace
}  // namespace mobe
