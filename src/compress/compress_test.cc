#include "compress/compress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "compress/recipe.h"
#include "compress/testing.h"
#include "fit/method.h"
#include "mobe/measure.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

CompressPlan Plan(const fs::path& model, const CompressOptions& options) {
  return PlanCompression(OpenModel(model), options);
}

TEST(BudgetTest, PassesAndTimes) {
  EXPECT_EQ(ParseBudget("500").passes, 500);
  EXPECT_EQ(ParseBudget("500").seconds, 0);
  EXPECT_EQ(ParseBudget("90s").seconds, 90);
  EXPECT_EQ(ParseBudget("1.5m").seconds, 90);
  EXPECT_EQ(ParseBudget("2h").seconds, 7200);
  EXPECT_EQ(ParseBudget("2h").passes, 0);
  for (const char* text : {"", "0", "-5", "1.5", "0s", "-1m", "5x", "m", "5 s",
                           "nan", "inf", "infs", "1e10", "5ss"}) {
    ExpectError(ErrorKind::kUserInput,
                fmt::format("--budget {}: expected a number of passes", text),
                [&] { ParseBudget(text); });
  }
}

// Of the small model: kept(m) = (65536 + 4128 m) / 98304.
TEST(PlanTest, RatioAndBases) {
  const std::pair<double, int64_t> cases[] = {
      {0.71, 1}, {0.75, 2}, {0.79, 2}, {0.793, 3}, {1, 7}};
  for (const auto& [ratio, num_bases] : cases) {
    CompressOptions options;
    options.ratio = ratio;
    const CompressPlan plan = Plan(SmallModel(), options);
    EXPECT_EQ(plan.format.factors[0].num_bases, num_bases) << ratio;
    EXPECT_DOUBLE_EQ(plan.ratios.experts,
                     (65536 + 4128.0 * static_cast<double>(num_bases)) / 98304);
  }
  CompressOptions options;
  options.ratio = 0.7;
  ExpectError(ErrorKind::kUserInput,
              "ratio 0.7 can't be met: this model's expert weights can be "
              "reduced to 0.709 (1 basis)",
              [&] { Plan(SmallModel(), options); });
}

// Kinds and ranks change what a basis costs; the plan must count as a reader
// does.
TEST(PlanTest, RatioOfVariants) {
  struct Case {
    std::vector<const MatrixKind*> kinds;
    int64_t rank, basis_rank, num_bases;
  };
  const std::vector<const MatrixKind*> all = {&kGateKind, &kUpKind, &kDownKind};
  // Of 32768 numbers in a kind: n p r, and for each basis r d + n or
  // k (r + d) + n. 0.752 of all is 73924.6.
  const Case cases[] = {
      {all, 32, 0, 4},           // 16384 + 2064 m in each of three
      {{&kDownKind}, 16, 0, 2},  // 65536 + 8192 + 1040 m: 73728 with 0
      {all, 24, 0, 7},           // 12288 + 1552 m
      {all, 32, 4, 16},          // 16384 + 400 m: more than the experts
      {{&kGateKind, &kUpKind}, 24, 8, 11},  // 32768 + 2 (12288 + 720 m)
  };
  for (const Case& c : cases) {
    CompressOptions options;
    options.kinds = c.kinds;
    options.rank = c.rank;
    options.basis_rank = c.basis_rank;
    if (c.kinds.size() == 1) options.ratio = 0.77;
    const CompressPlan plan = Plan(SmallModel(), options);
    EXPECT_EQ(plan.format.factors,
              Shapes({1, 2}, c.kinds, c.num_bases, c.rank, c.basis_rank));
    EXPECT_LE(plan.ratios.experts, options.ratio + 0.002);
  }
}

// A table that somebody else made: each job has its own shape.
TEST(PlanTest, ShapesOfEachJob) {
  const std::vector<FactorShape> shapes = {{1, &kGateKind, 2, 32, 0},
                                           {1, &kDownKind, 5, 24, 8},
                                           {2, &kUpKind, 7, 30, 0}};
  const OpenedModel model = OpenModel(SmallModel());
  CompressOptions options = QuickOptions(2);
  options.max_alphas = 2;
  const CompressPlan plan = PlanCompression(model, options, shapes);
  TempFolder out;
  const CompressReport report = Compress(
      model, plan, out.path(), [](const ProgressEvent&) {}, nullptr);
  EXPECT_EQ(report.matrices.size(), 3u);
  const OpenedModel small = OpenModel(out.path());
  EXPECT_EQ(small.mobe->factors, shapes);
  EXPECT_EQ(small.checkpoint.bytes(), plan.bytes_out);
  for (const FactorShape& shape : shapes) {
    const Factors factors = LoadFactors(small, shape);
    for (int64_t e = 0; e < 16; ++e) {
      const float* alpha = factors.alpha.data() + e * shape.num_bases;
      EXPECT_LE(shape.num_bases - std::count(alpha, alpha + shape.num_bases, 0),
                2);
    }
  }
}

TEST(PlanTest, ShapesThatCannotBe) {
  const OpenedModel model = OpenModel(SmallModel());
  const auto expect = [&](const std::vector<FactorShape>& shapes,
                          const char* message) {
    ExpectError(ErrorKind::kUserInput, message,
                [&] { PlanCompression(model, QuickOptions(2), shapes); });
  };
  expect({}, "no matrix to factor");
  expect({{0, &kUpKind, 2, 32, 0}}, "layer 0 has no experts to factor");
  expect({{3, &kUpKind, 2, 32, 0}}, "layer 3 has no experts to factor");
  expect({{1, &kUpKind, 2, 32, 0}, {2, &kUpKind, 17, 32, 0}},
         "17 bases: expected 1 to");
}

// kept(m) = (65536 + 4096 m + 32 m / groups) / 98304.
TEST(PlanTest, RatioOfGroups) {
  struct Case {
    double ratio;
    int64_t groups, num_bases;
  };
  const Case cases[] = {
      {0.75, 2, 2}, {0.79, 2, 2}, {0.832, 2, 4}, {0.79, 1, 2}, {0.832, 4, 4}};
  for (const Case& c : cases) {
    CompressOptions options;
    options.ratio = c.ratio;
    options.groups = c.groups;
    const CompressPlan plan = Plan(SmallModel(), options);
    EXPECT_EQ(plan.format.factors, Shapes({1, 2}, {&kGateKind, &kUpKind},
                                          c.num_bases, 32, 0, c.groups));
    const auto m = static_cast<double>(c.num_bases);
    const auto groups = static_cast<double>(c.groups);
    EXPECT_DOUBLE_EQ(plan.ratios.experts,
                     (65536 + 4096 * m + 32 * m / groups) / 98304);
  }
  CompressOptions options;
  options.ratio = 0.75;
  options.groups = 4;
  ExpectError(ErrorKind::kUserInput,
              "ratio 0.75 can't be met: this model's expert weights can be "
              "reduced to 0.834 (4 bases)",
              [&] { Plan(SmallModel(), options); });
}

TEST(PlanTest, SaysWhatWillBeWritten) {
  CompressOptions options = QuickOptions(4);
  options.shard_bytes = 100'000;
  const CompressPlan plan = Plan(SmallModel(), options);
  EXPECT_EQ(plan.format.factors, Shapes({1, 2}, {&kGateKind, &kUpKind}, 4, 32));
  TempFolder out;
  RunCompress(SmallModel(), options, out.path());
  const OpenedModel small = OpenModel(out.path());
  EXPECT_EQ(small.mobe->factors, plan.format.factors);
  EXPECT_EQ(small.checkpoint.bytes(), plan.bytes_out);
  EXPECT_EQ(OpenModel(SmallModel()).checkpoint.bytes(), plan.bytes_in);
  // All of it is bfloat16, so the ratio of bytes is that of parameters.
  EXPECT_DOUBLE_EQ(plan.ratios.model, static_cast<double>(plan.bytes_out) /
                                          static_cast<double>(plan.bytes_in));
  EXPECT_GT(plan.shards.size(), 3u);
  for (const Shard& shard : plan.shards) {
    const fs::path file = out / shard.file;
    EXPECT_EQ(SafetensorsFile(file).tensors().size(), shard.tensors.size());
    EXPECT_LT(fs::file_size(file), 120'000u);
  }
  EXPECT_FALSE(fs::exists(out / ".mobe"));
  EXPECT_EQ(ReadSmallFile(out / "tokenizer.json"),
            ReadSmallFile(SmallModel() / "tokenizer.json"));
}

TEST(PlanTest, Refusals) {
  const auto expect = [](ErrorKind kind, const char* message,
                         const fs::path& model, auto change) {
    SCOPED_TRACE(message);
    CompressOptions options = QuickOptions(2);
    change(&options);
    ExpectError(kind, message, [&] { Plan(model, options); });
  };
  const auto unchanged = [](CompressOptions*) {};
  expect(ErrorKind::kUserInput,
         "already factored (gate and up of 2 layers, 4 bases of rank 32, silu)",
         Fixture("models/qwen3_mobe"), unchanged);
  expect(ErrorKind::kUserInput, "0 bases: expected 1 to", SmallModel(),
         [](auto* options) { options->num_bases = 0; });
  expect(ErrorKind::kUserInput,
         "17 bases: expected 1 to the number of experts (16)", SmallModel(),
         [](auto* options) { options->num_bases = 17; });
  expect(ErrorKind::kUserInput,
         "rank 33: expected 1 to the expert size or hidden size (32)",
         SmallModel(), [](auto* options) { options->rank = 33; });
  expect(ErrorKind::kUserInput, "rank 0: expected 1 to", SmallModel(),
         [](auto* options) { options->rank = 0; });
  expect(ErrorKind::kUserInput,
         "bases of rank 33: expected 1 to the rank of A (32)", SmallModel(),
         [](auto* options) { options->basis_rank = 33; });
  expect(ErrorKind::kUserInput,
         "3 bases for an expert: expected 1 to the number of bases (2)",
         SmallModel(), [](auto* options) { options->max_alphas = 3; });
  expect(ErrorKind::kUserInput,
         "3 expert groups: expected a divisor of the number of experts (16)",
         SmallModel(), [](auto* options) {
           options->num_bases = 6;
           options->groups = 3;
         });
  // Nor is a ratio to blame, or a product of it too large.
  expect(ErrorKind::kUserInput, "9223372036854775807 expert groups: expected a",
         SmallModel(), [](auto* options) {
           options->num_bases.reset();
           options->groups = std::numeric_limits<int64_t>::max();
         });
  expect(ErrorKind::kUserInput,
         "5 bases: expected a multiple of the number of expert groups (2)",
         SmallModel(), [](auto* options) {
           options->num_bases = 5;
           options->groups = 2;
         });
  expect(ErrorKind::kUserInput, "0 expert groups: expected a divisor",
         SmallModel(), [](auto* options) { options->groups = 0; });
  expect(
      ErrorKind::kUserInput,
      "2 bases for an expert: expected 1 to the number of bases of its group "
      "(1)",
      SmallModel(), [](auto* options) {
        options->groups = 2;
        options->max_alphas = 2;
      });
  expect(ErrorKind::kUserInput,
         "--split auto chooses among bases that all experts share",
         SmallModel(), [](auto* options) {
           options->split = Split::kAuto;
           options->groups = 2;
         });
  expect(ErrorKind::kUserInput, "--start goes with --solver reference",
         SmallModel(), [](auto* options) { options->start = "x"; });
  for (const auto& range :
       {std::pair{0, 0}, {3, 10}, {2, 1}}) {  // dense, beyond, none
    expect(ErrorKind::kUserInput,
           "no layer to factor: the model has layers 0 to 2", SmallModel(),
           [&](auto* options) {
             options->first_layer = range.first;
             options->last_layer = range.second;
           });
  }
}

TEST(PlanTest, ExpertsWiderThanTheModel) {
  TempFolder folder;
  CopyModel(TinyModel(), folder.path());
  auto tensors = ReadTensors(folder / "model.safetensors");
  for (LooseTensor& tensor : tensors) {
    if (tensor.name.find(".experts.") == std::string::npos) continue;
    const bool down = tensor.name.find("down_proj") != std::string::npos;
    tensor.shape =
        down ? std::vector<int64_t>{16, 24} : std::vector<int64_t>{24, 16};
    tensor.data.resize(tensor.bytes());
  }
  WriteTensors(folder / "model.safetensors", tensors);
  Json config = ReadConfig(folder.path());
  config["moe_intermediate_size"] = 24;
  WriteConfig(folder.path(), config);
  ExpectError(ErrorKind::kUnsupported,
              "experts are wider (24) than the model (16)",
              [&] { Plan(folder.path(), QuickOptions(2)); });
}

// What was planned is what a reader finds.
TEST(CompressTest, FormatOfTheResult) {
  for (const Activation activation :
       {Activation::kSilu, Activation::kTanh, Activation::kIdentity}) {
    for (const int64_t first_layer : {0, 2}) {
      CompressOptions options = QuickOptions(3);
      options.activation = activation;
      options.first_layer = first_layer;
      TempFolder out;
      RunCompress(SmallModel(), options, out.path());
      const OpenedModel small = OpenModel(out.path());
      ASSERT_TRUE(small.mobe);
      EXPECT_EQ(small.mobe->activation, activation);
      const std::vector<int64_t> layers = first_layer == 2
                                              ? std::vector<int64_t>{2}
                                              : std::vector<int64_t>{1, 2};
      EXPECT_EQ(small.mobe->factors,
                Shapes(layers, {&kGateKind, &kUpKind}, 3, 32));
      const bool reference =
          first_layer == 0 && activation != Activation::kIdentity;
      EXPECT_EQ(ReadConfig(out.path()).contains("num_B"), reference);
    }
  }
}

// The factors keep the dtype of the matrices that they stand for.
TEST(CompressTest, OtherDTypes) {
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    TempFolder folder;
    CopyModel(TinyModel(), folder / "model");
    auto tensors = ReadTensors(folder / "model/model.safetensors");
    for (LooseTensor& tensor : tensors) {
      std::vector<float> values(tensor.elements());
      LoadAsFloats(tensor.dtype, tensor.data.data(), tensor.elements(),
                   values.data());
      tensor.dtype = dtype;
      tensor.data.resize(tensor.bytes());
      StoreFloats(values.data(), tensor.elements(), dtype, tensor.data.data());
    }
    WriteTensors(folder / "model/model.safetensors", tensors);
    RunCompress(folder / "model", QuickOptions(2), folder / "out");
    const OpenedModel small = OpenModel(folder / "out");
    for (const TensorSpec& spec : small.tensors) {
      EXPECT_EQ(small.checkpoint.At(spec.name).dtype, dtype) << spec.name;
    }
  }
}

TEST(CompressTest, ShardSizeChangesNoTensor) {
  TempFolder folder;
  CompressOptions options = QuickOptions(4);
  RunCompress(SmallModel(), options, folder / "whole");
  options.shard_bytes = 30'000;
  RunCompress(SmallModel(), options, folder / "split");
  const Checkpoint whole(folder / "whole");
  const Checkpoint split(folder / "split");
  ASSERT_EQ(whole.tensors().size(), split.tensors().size());
  for (const TensorView* tensor : whole.tensors()) {
    EXPECT_TRUE(std::ranges::equal(tensor->data, split.At(tensor->name).data))
        << tensor->name;
  }
}

TEST(CompressTest, ThreadsChangeNoByte) {
  const OpenedModel model = OpenModel(SmallModel());
  const CompressPlan plan = PlanCompression(model, QuickOptions(4));
  TempFolder folder;
  for (const int threads : {1, 2}) {
    SetThreads(threads);
    Compress(
        model, plan, folder / fmt::format("{}", threads),
        [](const ProgressEvent&) {}, nullptr);
  }
  SetThreads(0);
  EXPECT_EQ(Contents(folder / "1"), Contents(folder / "2"));
}

TEST(CompressTest, TimeBudgetBecomesPasses) {
  CompressOptions options = QuickOptions(2);
  options.budget = {0, 1e-9};
  TempFolder out;
  EXPECT_EQ(RunCompress(TinyModel(), options, out.path()).passes, 1);
}

TEST(CompressTest, TraceAndReport) {
  const OpenedModel model = OpenModel(SmallModel());
  const CompressPlan plan = PlanCompression(model, QuickOptions(4));
  TempFolder out;
  std::string passes;
  double fraction = 0;
  const CompressReport report = Compress(
      model, plan, out.path(),
      [&](const ProgressEvent& event) {
        EXPECT_GE(event.fraction, fraction);
        EXPECT_LE(event.fraction, 1 + 1e-9);
        fraction = event.fraction;
      },
      [&](int64_t layer, const MatrixKind& kind, int64_t pass, double mse) {
        passes += fmt::format("{}{}{} ", layer, kind.name, pass);
        EXPECT_GT(mse, 0);
      });
  EXPECT_EQ(passes, "1gate1 1gate2 1up1 1up2 2gate1 2gate2 2up1 2up2 ");
  EXPECT_NEAR(fraction, 1, 1e-9);
  EXPECT_EQ(report.passes, 2);
  EXPECT_EQ(report.resumed, 0);
  ASSERT_EQ(report.matrices.size(), 4u);
  double sum = 0;
  for (const MatrixReport& matrix : report.matrices) {
    sum += matrix.error.scaled_mse;
  }
  EXPECT_NEAR(report.mse_scaled_mean, sum / 4, 1e-12);
}

// A model that has a group's experts alone.
fs::path KeepExperts(int64_t first, int64_t count, const fs::path& to) {
  const OpenedModel model = OpenModel(SmallModel());
  std::vector<LooseTensor> tensors;
  for (const TensorSpec& spec : model.tensors) {
    if (spec.expert >= 0 &&
        (spec.expert < first || spec.expert >= first + count)) {
      continue;
    }
    const TensorView& view = model.checkpoint.At(spec.name);
    LooseTensor& tensor = tensors.emplace_back(
        LooseTensor{view, {view.data.begin(), view.data.end()}});
    if (spec.expert >= 0) {
      tensor.name =
          TensorName(*model.family, spec.role, spec.layer, spec.expert - first);
    } else if (spec.role == Role::kRouter) {
      tensor.shape[0] = count;
      tensor.data.resize(tensor.bytes());
    }
  }
  fs::create_directories(to);
  Json config = ReadConfig(SmallModel());
  config["num_experts"] = count;
  WriteConfig(to, config);
  WriteTensors(to / "model.safetensors", tensors);
  return to;
}

// A group is fitted as if its experts were a model of their own, but for the
// scale, which is of all experts.
TEST(CompressTest, GroupsAreFittedOnTheirOwn) {
  const OneThread one_thread;
  CompressOptions options = QuickOptions(6);
  options.groups = 2;
  options.kinds = {&kUpKind, &kDownKind};
  TempFolder folder;
  const CompressReport report =
      RunCompress(SmallModel(), options, folder / "groups");
  const OpenedModel original = OpenModel(SmallModel());
  const OpenedModel grouped = OpenModel(folder / "groups");
  ASSERT_EQ(report.matrices.size(), 4u);
  for (size_t i = 0; i < report.matrices.size(); ++i) {
    const FactorShape& shape = grouped.mobe->factors[i];
    const FitTarget whole = LoadTarget(original, shape.layer, *shape.kind);
    const FitError error =
        MeasureMatrices(original, grouped, shape.layer, *shape.kind);
    EXPECT_EQ(error.scaled_mse, report.matrices[i].error.scaled_mse);
    EXPECT_EQ(error.relative, report.matrices[i].error.relative);
    EXPECT_EQ(error.worst_expert_index,
              report.matrices[i].error.worst_expert_index);
    for (int64_t g = 0; g < 2; ++g) {
      SCOPED_TRACE(fmt::format("layer {} {} group {}", shape.layer,
                               shape.kind->name, g));
      const OpenedModel own = OpenModel(
          KeepExperts(8 * g, 8, folder / fmt::format("own{}{}", i, g)));
      FitTarget target = LoadTarget(own, shape.layer, *shape.kind);
      EXPECT_NE(target.scale, whole.scale);
      target.scale = whole.scale;
      FitOptions fit;
      fit.num_bases = 3;
      fit.rank = 32;
      fit.passes = 2;
      Factors factors = Fit(target, fit, [](int64_t, int64_t, double) {});
      RoundFactors(DType::kBF16, target.cols, &factors);
      const Factors written = LoadFactors(grouped, shape, g);
      EXPECT_TRUE(Same(factors.a, written.a));
      EXPECT_TRUE(Same(factors.bases, written.bases));
      EXPECT_TRUE(Same(factors.alpha, written.alpha));
    }
  }
}

// Killed in the second group, whose passes are counted on.
TEST(CompressTest, AStoppedGroupGivesTheSameBytes) {
  CompressOptions options = QuickOptions(4);
  options.groups = 2;
  TempFolder folder;
  RunCompress(SmallModel(), options, folder / "whole");
  const OneThread one_thread;
  const OpenedModel model = OpenModel(SmallModel());
  const CompressPlan plan = PlanCompression(model, options);
  struct Killed {};
  std::string passes;
  const auto run = [&](const char* stop_at) {
    passes.clear();
    return Compress(
        model, plan, folder / "resumed", [](const ProgressEvent&) {},
        [&](int64_t layer, const MatrixKind& kind, int64_t pass, double) {
          passes += fmt::format("{}{}{} ", layer, kind.name, pass);
          if (passes.ends_with(stop_at)) throw Killed();
        });
  };
  EXPECT_THROW(run("1up3 "), Killed);
  EXPECT_THROW(run("2gate2 "), Killed);
  EXPECT_EQ(passes, "1up1 1up2 1up3 1up4 2gate1 2gate2 ");
  EXPECT_EQ(run("never").resumed, 2);
  EXPECT_EQ(Contents(folder / "resumed"), Contents(folder / "whole"));
}

// The trace in the recipe is the mean over the groups.
TEST(CompressTest, TraceOfGroups) {
  const OpenedModel model = OpenModel(SmallModel());
  CompressOptions options = QuickOptions(4);
  options.groups = 2;
  std::vector<double> seen;
  TempFolder out;
  Compress(
      model, PlanCompression(model, options), out.path(),
      [](const ProgressEvent&) {},
      [&](int64_t, const MatrixKind&, int64_t, double mse) {
        seen.push_back(mse);
      });
  const std::optional<Recipe> recipe = ReadRecipe(out.path());
  ASSERT_EQ(recipe->matrices.size(), 4u);
  EXPECT_EQ(recipe->options.at("groups"), 2);
  for (size_t i = 0; i < 4; ++i) {
    const auto& trace = recipe->matrices[i].trace;
    ASSERT_EQ(trace.size(), 2u);
    EXPECT_EQ(recipe->matrices[i].passes, 2);
    for (size_t pass = 0; pass < 2; ++pass) {
      const double mean = (seen[4 * i + pass] + seen[4 * i + 2 + pass]) / 2;
      EXPECT_NEAR(trace[pass].mse_scaled / mean, 1, 1e-5);
    }
  }
}

// The reference solver from given starts: the fixture's, which were fitted, so
// that one pass does not lead far from what it stands for.
TEST(CompressTest, StartsFromAFile) {
  CompressOptions options = QuickOptions(4);
  options.solver = &kReferenceSolver;
  options.start = Fixture("models/qwen3_mobe/wab.safetensors");
  options.budget = {1, 0};
  TempFolder out;
  const OpenedModel model = OpenModel(SmallModel());
  Compress(
      model, PlanCompression(model, options), out.path(),
      [](const ProgressEvent&) {},
      [](int64_t, const MatrixKind&, int64_t, double mse) {
        EXPECT_LT(mse, 0.01);
      });
  TempFolder other;
  options.num_bases = 3;
  ExpectError(
      ErrorKind::kUserInput,
      "tensor model_layers_1_mlp_gate_proj.B_params is F32 [4, 32, 64], "
      "expected floats [3, 32, 64] for this model and these bases",
      [&] { RunCompress(SmallModel(), options, other.path()); });
}

// A start for each group, named as the reference's files for them: one pass
// tells what they stand for. With the bases of all in each group that is the
// same as without groups, since the scale is of all experts.
TEST(CompressTest, StartsOfGroups) {
  std::vector<LooseTensor> starts;
  for (LooseTensor& tensor :
       ReadTensors(Fixture("models/qwen3_mobe/wab.safetensors"))) {
    for (const char* group : {"0", "1"}) {
      LooseTensor& part = starts.emplace_back(tensor);
      part.name.insert(part.name.find('.'), fmt::format("_group{}", group));
      if (part.name.ends_with("B_params")) continue;
      part.shape[0] /= 2;
      const auto half = static_cast<ptrdiff_t>(part.bytes());
      const auto from = tensor.data.begin() + (group[0] - '0') * half;
      part.data = {from, from + half};
    }
  }
  TempFolder folder;
  WriteTensors(folder / "start.safetensors", starts);
  CompressOptions options = QuickOptions(4);
  options.solver = &kReferenceSolver;
  options.start = Fixture("models/qwen3_mobe/wab.safetensors");
  options.budget = {1, 0};
  const auto errors_of = [&](const char* out) {
    std::vector<double> errors;
    const OpenedModel model = OpenModel(SmallModel());
    Compress(
        model, PlanCompression(model, options), folder / out,
        [](const ProgressEvent&) {},
        [&](int64_t, const MatrixKind&, int64_t, double mse) {
          errors.push_back(mse);
        });
    return errors;
  };
  const std::vector<double> together = errors_of("together");
  options.num_bases = 8;
  options.groups = 2;
  options.start = folder / "start.safetensors";
  const std::vector<double> apart = errors_of("apart");
  ASSERT_EQ(apart.size(), 2 * together.size());
  for (size_t i = 0; i < together.size(); ++i) {
    EXPECT_NEAR((apart[2 * i] + apart[2 * i + 1]) / 2 / together[i], 1, 1e-6);
    EXPECT_LT(together[i], 0.01);
  }
  options.groups = 4;
  ExpectError(ErrorKind::kUserInput,
              "tensor model_layers_1_mlp_gate_proj_group0.A_params is F32 [8, "
              "32, 32], expected floats [4, 32, 32] for this model and these "
              "bases",
              [&] { RunCompress(SmallModel(), options, folder / "other"); });
}

}  // namespace
}  // namespace mobe
