// What a compress will take, before it begins: time, operations, memory, disk.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "compress/compress.h"
#include "fit/budget.h"

namespace mobe {

// Seconds of the job of this plan that don't depend on passes, and of one.
struct JobSpeed {
  FitCost first;     // of the plan's first job, or of its first expert group
  double units = 0;  // the whole, as this process waits for it, in those
  double read_seconds = 0;   // hashing and checking the model
  double text_seconds = 0;   // running it on a text, to calibrate
  double write_seconds = 0;  // factors and shards

  double Seconds(int64_t passes) const;
};

// Measured on the first job, for a few seconds; `units` are of the jobs that
// `out` has no record of, shared by that many workers. Leaves nothing behind.
// Calls `on_pass` after each pass, to be stopped.
JobSpeed MeasureSpeed(const OpenedModel& model, const CompressPlan& plan,
                      const std::filesystem::path& out, int64_t workers,
                      const std::function<void()>& on_pass);

// The passes of each matrix: those asked for, or as many as fit into the time
// asked for, less `spent` seconds.
int64_t PassesOf(const Budget& budget, const JobSpeed& speed, double spent);

struct JobEstimate {
  JobSpeed speed;
  int64_t passes = 0;
  double seconds = 0;
  double operations = 0;  // floating-point, of all fits of this process's share
  // Of one process: its own, pages of the model that are mapped while a matrix
  // kind is read, and CompressPlan::fit_bytes.
  int64_t process_bytes = 0;
  int64_t mapped_bytes = 0;
  int64_t peak_memory_bytes = 0;
  int64_t disk_bytes = 0;  // the most that `out` will hold
  int64_t free_bytes = 0;  // beside what it holds now
  std::string warning;     // of disk space; empty when there is enough
};
JobEstimate EstimateCompression(const OpenedModel& model,
                                const CompressPlan& plan,
                                const std::filesystem::path& out,
                                int64_t workers);

// The most bytes that `out` holds at any time: shards, and the factors that
// wait for theirs.
int64_t DiskBytes(const CompressPlan& plan, int64_t workers);

// Fails with kOutOfMemory when the fit does not fit into the memory that this
// process may use.
void CheckFitMemory(const CompressPlan& plan);

// The jobs of the plan that its share has.
std::vector<bool> WantedJobs(const CompressPlan& plan);

}  // namespace mobe
