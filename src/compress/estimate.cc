#include "compress/estimate.h"

#include <algorithm>

#include "base/disk.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "compress/job.h"
#include "compress/journal.h"
#include "compress/shards.h"
#include "fit/device.h"
#include "fit/devices.h"
#include "fit/diagonal.h"
#include "fit/method.h"
#include "kernels/blas.h"
#include "mobe/tensors.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

int64_t BytesOf(const FactorJob& job) {
  int64_t bytes = 0;
  for (const TensorDecl& tensor : job.tensors) bytes += tensor.bytes();
  return bytes;
}

// The wanted jobs that no earlier run has finished.
std::vector<bool> UnfinishedJobs(const CompressPlan& plan,
                                 const fs::path& out) {
  std::vector<bool> unfinished = WantedJobs(plan);
  for (size_t i = 0; i < unfinished.size(); ++i) {
    const FactorJob& job = plan.jobs[i];
    if (unfinished[i]) {
      unfinished[i] = !HasRecord(out, job.layer, *job.kind);
    }
  }
  return unfinished;
}

}  // namespace

double JobSpeed::Seconds(int64_t passes) const {
  return read_seconds + text_seconds + write_seconds +
         units * first.seconds.Total(passes);
}

std::vector<bool> WantedJobs(const CompressPlan& plan) {
  std::vector<bool> wanted(plan.jobs.size(), !plan.options.share);
  if (!plan.options.share) return wanted;
  for (const size_t i :
       JobsOfShare(internal::CostsOf(plan), *plan.options.share)) {
    wanted[i] = true;
  }
  return wanted;
}

JobSpeed MeasureSpeed(const OpenedModel& model, const CompressPlan& plan,
                      const fs::path& out, int64_t workers,
                      const std::function<void()>& on_pass) {
  JobSpeed speed;
  const FactorJob& first = plan.jobs.front();
  const std::vector<bool> jobs = UnfinishedJobs(plan, out);
  const std::vector<double> costs = internal::CostsOf(plan);
  // What is measured is the fit of the first job's first group.
  const double unit = costs.front() / static_cast<double>(first.groups);
  std::vector<double> units;
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (jobs[i]) units.push_back(costs[i] / unit);
  }
  speed.units = Makespan(units, workers);

  // Reading, of one job's matrices for all that are read. First the hash: it
  // finds them where the job will, on the disk or in its cache.
  const auto inputs = internal::InputsOf(model, {first});
  int64_t bytes = 0;
  double start = MonotonicSeconds();
  for (const TensorView* tensor : inputs) {
    HashBytes(tensor->data);
    bytes += tensor->bytes();
  }
  internal::CheckWeights(model, inputs);
  const double part = static_cast<double>(std::ranges::count(jobs, true)) /
                      static_cast<double>(jobs.size());
  const double read = plan.options.share
                          ? part * static_cast<double>(plan.bytes_in)
                          : static_cast<double>(plan.bytes_in);
  speed.read_seconds = (MonotonicSeconds() - start) * read /
                       static_cast<double>(std::max<int64_t>(bytes, 1));

  // Writing: each job's factors, and then the shards.
  const double write = MeasureWriting(out, BytesOf(first));
  const double shards = plan.options.share
                            ? 0
                            : static_cast<double>(plan.bytes_out) /
                                  static_cast<double>(BytesOf(first));
  speed.write_seconds =
      write * (speed.units / static_cast<double>(first.groups) + shards);

  start = MonotonicSeconds();
  const ExpertGroup group = GroupAt(model.config, first, 0);
  FitTarget target = LoadTarget(model, first.layer, *first.kind, group);
  const double load = MonotonicSeconds() - start;
  for (const TensorView* tensor : inputs) model.checkpoint.Evict(*tensor);
  const internal::StartedFit fit =
      internal::StartOf(plan, first, group, target);
  if (plan.options.calibration) {
    // Stands for the moment of the text, which is not known yet: as much work.
    if (first.fit.pairs > 0) SetToIdentity(target.cols, &target.moment);
    // A choice of the split has run the text already.
    if (plan.options.split == Split::kEven &&
        !Exists(internal::MomentsPath(out))) {
      speed.text_seconds = plan.options.calibration->probe();
    }
  }
  speed.first = ProbeFit(target, first.fit, fit.options, on_pass);
  speed.first.seconds.fixed += load;
  return speed;
}

int64_t PassesOf(const Budget& budget, const JobSpeed& speed, double spent) {
  if (budget.seconds == 0) return budget.passes;
  return PassesWithin(
      budget.seconds - spent - speed.text_seconds - speed.write_seconds,
      speed.first, std::max(speed.units, 1e-9));
}

int64_t DiskBytes(const CompressPlan& plan, int64_t workers) {
  // Headers, records, index.
  constexpr int64_t kSlack = int64_t{1} << 20;
  constexpr int64_t kHeader = 512;  // of a tensor, in journal, shard and index
  const std::vector<bool> wanted = WantedJobs(plan);
  int64_t largest = 0;
  int64_t share = 0;
  int64_t tensors = 0;
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    const int64_t bytes = BytesOf(plan.jobs[i]);
    largest = std::max(largest, bytes);
    if (wanted[i]) share += bytes;
    tensors += static_cast<int64_t>(plan.jobs[i].tensors.size());
  }
  const int64_t text =
      plan.options.calibration ? plan.options.calibration->bytes : 0;
  if (plan.options.share) return share + text + kSlack + tensors * kHeader;

  // As the queue gives them; with others, one under way at each.
  JobQueue queue(workers > 1 ? internal::CostsOf(plan)
                             : std::vector<double>(plan.jobs.size(), 1.0));
  std::vector<size_t> order;
  for (auto job = queue.Next(0); job; job = queue.Next(0)) {
    order.push_back(*job);
    queue.Finish(*job);
  }
  int64_t bytes = PeakDiskBytes(plan, order) + (workers - 1) * largest;
  for (const Shard& shard : plan.shards) {
    bytes += kHeader * static_cast<int64_t>(shard.tensors.size());
  }
  return bytes + plan.side_files.bytes() + text + kSlack;
}

void CheckFitMemory(const CompressPlan& plan) {
  CheckMemory(plan.fit_bytes, "the fit");
  for (const FitDevice* device : plan.options.devices) {
    CheckDeviceMemory(*device, plan.device_bytes);
  }
  PrepareBlas();
}

JobEstimate EstimateCompression(const OpenedModel& model,
                                const CompressPlan& plan, const fs::path& out,
                                int64_t workers) {
  CheckFitMemory(plan);
  JobEstimate estimate;
  estimate.disk_bytes = DiskBytes(plan, workers);
  estimate.free_bytes = FreeDiskBytes(out);
  try {
    CheckDiskSpace(out, estimate.disk_bytes);
  } catch (const Error& e) {
    estimate.warning = e.what();
  }
  const Resident before = ResidentBytes();
  for (const FactorJob& job : plan.jobs) {
    int64_t bytes = 0;
    for (const TensorView* tensor : internal::InputsOf(model, {job})) {
      bytes += tensor->bytes();
    }
    estimate.mapped_bytes = std::max(estimate.mapped_bytes, bytes);
  }
  const double started =
      plan.options.started > 0 ? plan.options.started : MonotonicSeconds();
  estimate.speed = MeasureSpeed(model, plan, out, workers, [&] {
    if (plan.options.stop && plan.options.stop()) {
      throw Stopped("stopped while measuring");
    }
  });
  // The probe has brought in the code of the libraries. What a small fit took
  // beyond its formula, buffers of the libraries say, was measured, too.
  const int64_t formula = estimate.mapped_bytes + plan.fit_bytes;
  estimate.process_bytes =
      std::max(before.all - before.files + ResidentBytes().files,
               PeakResidentBytes() - formula);
  estimate.peak_memory_bytes = estimate.process_bytes + formula;
  const JobSpeed& speed = estimate.speed;
  // What a run will have spent, too, when it turns a time into passes.
  const double spent = MonotonicSeconds() - started;
  const Json note = ReadNote(out, "passes");
  estimate.passes = !note.is_null() ? note.get<int64_t>()
                                    : PassesOf(plan.options.budget, speed,
                                               speed.read_seconds + spent);
  estimate.seconds = speed.Seconds(estimate.passes);
  if (plan.options.budget.seconds > 0) {
    estimate.seconds += speed.first.probe_seconds;
  }

  const std::vector<bool> wanted = WantedJobs(plan);
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    if (!wanted[i]) continue;
    const FactorJob& job = plan.jobs[i];
    estimate.operations +=
        static_cast<double>(job.groups) *
        plan.options.solver->operations(job.fit).Total(estimate.passes);
  }
  return estimate;
}

}  // namespace mobe
