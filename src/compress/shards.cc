#include "compress/shards.h"

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "io/checkpoint_writer.h"
#include "mobe/copy_tensors.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// Index of the job that makes each factor.
using JobOfTensor = std::unordered_map<std::string, size_t>;

JobOfTensor IndexJobs(const CompressPlan& plan) {
  JobOfTensor jobs;
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    for (const TensorDecl& tensor : plan.jobs[i].tensors) jobs[tensor.name] = i;
  }
  return jobs;
}

std::set<size_t> JobsOf(const Shard& shard, const JobOfTensor& job_of) {
  std::set<size_t> jobs;
  for (const TensorDecl& tensor : shard.tensors) {
    const auto found = job_of.find(tensor.name);
    if (found != job_of.end()) jobs.insert(found->second);
  }
  return jobs;
}

void Write(const OpenedModel& model, const CompressPlan& plan,
           const fs::path& out, const Shard& shard, const JobOfTensor& job_of,
           const FactorsOfJob& factors_of) {
  // The factors opened last stay open: those of one job are neighbours.
  size_t open_job = plan.jobs.size();
  std::unique_ptr<SafetensorsFile> open;
  WriteShard(out, shard, [&](const TensorDecl& tensor, const ByteSink& sink) {
    const auto found = job_of.find(tensor.name);
    if (found == job_of.end()) {
      CopyTensor(model.checkpoint, tensor, sink);
      return;
    }
    if (found->second != open_job) {
      open_job = found->second;
      open = std::make_unique<SafetensorsFile>(factors_of(plan.jobs[open_job]));
    }
    sink(open->At(tensor.name).data);
  });
}

}  // namespace

std::vector<size_t> WriteReadyShards(
    const OpenedModel& model, const CompressPlan& plan, const fs::path& out,
    const std::vector<bool>& finished, const FactorsOfJob& factors_of,
    const std::function<void(size_t shard)>& written) {
  const JobOfTensor job_of = IndexJobs(plan);
  std::set<size_t> needed;
  for (size_t i = 0; i < plan.shards.size(); ++i) {
    const Shard& shard = plan.shards[i];
    if (fs::exists(out / shard.file)) continue;
    const std::set<size_t> jobs = JobsOf(shard, job_of);
    if (std::ranges::all_of(jobs, [&](size_t job) { return finished[job]; })) {
      Write(model, plan, out, shard, job_of, factors_of);
      if (written) written(i);
    } else {
      needed.insert(jobs.begin(), jobs.end());
    }
  }
  std::vector<size_t> not_needed;
  for (size_t i = 0; i < finished.size(); ++i) {
    if (finished[i] && !needed.contains(i)) not_needed.push_back(i);
  }
  return not_needed;
}

int64_t PeakDiskBytes(const CompressPlan& plan,
                      const std::vector<size_t>& order) {
  const JobOfTensor job_of = IndexJobs(plan);
  std::vector<size_t> turn(plan.jobs.size());  // when each job is finished
  for (size_t at = 0; at < order.size(); ++at) turn[order[at]] = at;

  // Bytes that come and go with each turn: a job's factors come with it, its
  // shard with the last of the shard's jobs, and then its factors go.
  std::vector<int64_t> come(order.size(), 0);
  std::vector<int64_t> go(order.size(), 0);
  std::vector<size_t> last(turn);  // when each job's factors are let go
  for (const Shard& shard : plan.shards) {
    size_t written = 0;
    const std::set<size_t> jobs = JobsOf(shard, job_of);
    for (const size_t job : jobs) written = std::max(written, turn[job]);
    for (const size_t job : jobs) last[job] = std::max(last[job], written);
    for (const TensorDecl& tensor : shard.tensors) {
      come[written] += tensor.bytes();
    }
  }
  for (size_t job = 0; job < turn.size(); ++job) {
    for (const TensorDecl& tensor : plan.jobs[job].tensors) {
      come[turn[job]] += tensor.bytes();
      go[last[job]] += tensor.bytes();
    }
  }
  int64_t now = 0;
  int64_t most = 0;
  for (size_t at = 0; at < order.size(); ++at) {
    now += come[at];
    most = std::max(most, now);
    now -= go[at];
  }
  return most;
}

}  // namespace mobe
