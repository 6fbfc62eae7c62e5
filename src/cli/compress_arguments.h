// What the command line of compress says, and what a merge of its parts takes
// over.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/calibrate_options.h"
#include "cli/output_file.h"
#include "cli/pack_options.h"
#include "cli/size_options.h"
#include "compress/compress.h"

namespace mobe {

struct CompressArguments {
  std::string model;
  std::string out;
  std::optional<std::string> kinds;
  std::string split = "even";
  std::vector<int64_t> bases;  // several: a fit for each, with a size
  std::optional<double> ratio;
  std::optional<int64_t> rank;
  std::optional<int64_t> basis_rank;
  std::optional<int64_t> alphas;
  std::optional<int64_t> groups;
  std::optional<std::string> activation;
  std::string layers;
  std::string solver = "fast";
  std::string device = "auto";
  std::string budget;
  std::string passes;
  std::string time;
  double shard_gigabytes = 5;
  bool keep_fp8 = false;
  std::string start;
  OutputFile trace;
  std::string shard;
  CalibrateOptions calibrate;
  std::string moments;
  PackOptions pack;
  SizeOptions size;
  std::string method = "mobe";
  uint64_t seed = 0;
  bool dry_run = false;
};

// The options that make the model what it is: all that a merge has to know.
void AddRecipe(CLI::App* recipe, CompressArguments* arguments);

// What they come to for a model. `place`: of this rank on its machine. Fails
// with kUserInput where they contradict each other.
CompressOptions OptionsOf(const CompressArguments& arguments,
                          const OpenedModel& model, int place);

}  // namespace mobe
