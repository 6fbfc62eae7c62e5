#include "mobe/compress_shards.h"

#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "io/checkpoint_writer.h"

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
           const Journal& journal) {
  // The factors opened last stay open: those of one job are neighbours.
  size_t open_job = plan.jobs.size();
  std::unique_ptr<SafetensorsFile> open;
  WriteShard(out, shard, [&](const TensorDecl& tensor, const ByteSink& sink) {
    const auto found = job_of.find(tensor.name);
    if (found == job_of.end()) {
      const TensorView& view = model.checkpoint.At(tensor.name);
      sink(view.data);
      model.checkpoint.Evict(view);
      return;
    }
    if (found->second != open_job) {
      open_job = found->second;
      const FactorJob& job = plan.jobs[open_job];
      open = std::make_unique<SafetensorsFile>(
          journal.FactorsPath(job.layer, *job.kind));
    }
    sink(open->At(tensor.name).data);
  });
}

}  // namespace

void WriteReadyShards(const OpenedModel& model, const CompressPlan& plan,
                      const fs::path& out, size_t finished, Journal* journal) {
  const JobOfTensor job_of = IndexJobs(plan);
  std::set<size_t> needed;
  for (const Shard& shard : plan.shards) {
    if (fs::exists(out / shard.file)) continue;
    const std::set<size_t> jobs = JobsOf(shard, job_of);
    if (jobs.empty() || *jobs.rbegin() < finished) {
      Write(model, plan, out, shard, job_of, *journal);
    } else {
      needed.insert(jobs.begin(), jobs.end());
    }
  }
  for (size_t i = 0; i < finished; ++i) {
    if (needed.contains(i)) continue;
    journal->DropFactors(plan.jobs[i].layer, *plan.jobs[i].kind);
  }
}

}  // namespace mobe
