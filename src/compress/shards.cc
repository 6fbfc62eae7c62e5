#include "compress/shards.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/parallel.h"
#include "compress/packing.h"
#include "compress/weighed_rounding.h"
#include "mobe/copy_tensors.h"
#include "mobe/mixed_model.h"
#include "mobe/parts.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// Index of the job that makes each factor, and the planes in place of one.
using JobOfTensor = std::unordered_map<std::string, size_t>;

JobOfTensor IndexJobs(const CompressPlan& plan) {
  JobOfTensor jobs;
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    for (const TensorDecl& tensor : plan.jobs[i].tensors) jobs[tensor.name] = i;
  }
  for (const auto& [name, plane] : plan.packing.planes) {
    const auto found = jobs.find(plane.spec.name);
    if (found == jobs.end()) continue;
    const size_t job = found->second;  // the insertion may move it
    jobs[name] = job;
  }
  return jobs;
}

// Those that a shard waits for.
std::set<size_t> JobsOf(const CompressPlan& plan, const Shard& shard,
                        const JobOfTensor& job_of) {
  std::set<size_t> jobs;
  std::set<int64_t> rounded;  // layers
  for (const TensorDecl& tensor : shard.tensors) {
    const auto found = job_of.find(tensor.name);
    if (found != job_of.end()) jobs.insert(found->second);
    const auto plane = plan.packing.planes.find(tensor.name);
    if (plane != plan.packing.planes.end()) {
      rounded.insert(plane->second.spec.layer);
    }
  }
  if (!plan.RoundsByText()) return jobs;
  // How a matrix of an expert is rounded depends on the others.
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    if (rounded.contains(plan.jobs[i].layer)) jobs.insert(i);
  }
  return jobs;
}

// Where a job's factors are. Fails with kCorruptFile when they are others.
fs::path CheckedFactors(const FactorsFile& file) {
  if (HashFile(file.path) == file.sha256) return file.path;
  Fail(ErrorKind::kCorruptFile,
       "{}: damaged: it is not what was fitted; run the compress command that "
       "wrote it again, which fits this matrix anew",
       file.path.string());
}

// Rounds the tensors of a shard by what the job's text has told.
class ShardRounding {
 public:
  ShardRounding(const OpenedModel& model, const CompressPlan& plan,
                const fs::path& out, const std::set<size_t>& jobs,
                const FactorsOfJob& factors_of,
                const std::function<void()>& check_stop)
      : mixed_(Mixed(model, plan, jobs, factors_of)),
        rounding_(
            mixed_, &model, internal::MomentsPath(out),
            [&plan](const TensorSpec& spec) {
              return FormatFor(spec, *plan.options.pack);
            },
            RefitBases(plan.options.pack->refit_passes,
                       [check_stop](const BasesJob&, int64_t, int64_t) {
                         check_stop();
                       })) {}

  const TensorView& Factor(const std::string& name) const {
    return mixed_.checkpoint.At(name);
  }
  WeighedRounding* operator->() { return &rounding_; }

 private:
  static OpenedModel Mixed(const OpenedModel& model, const CompressPlan& plan,
                           const std::set<size_t>& jobs,
                           const FactorsOfJob& factors_of) {
    MobeFormat format;
    format.activation = plan.format.activation;
    std::vector<fs::path> files;
    for (const size_t job : jobs) {
      format.factors.push_back(plan.jobs[job]);
      files.push_back(CheckedFactors(factors_of(plan.jobs[job])));
    }
    return WithFactors(OpenModel(model.checkpoint.folder()), std::move(format),
                       files);
  }

  const OpenedModel mixed_;
  WeighedRounding rounding_;
};

bool IsSound(const fs::path& path, const std::string& sha256) {
  return IsFile(path) && HashFile(path) == sha256;
}

// Of what a shard is planned to hold: a version that plans otherwise must not
// go on from it.
std::string LayoutHash(const Shard& shard) {
  Sha256 hash;
  for (const TensorDecl& tensor : shard.tensors) {
    const std::string line =
        fmt::format("{} {} {}\n", tensor.name, DTypeName(tensor.dtype),
                    fmt::join(tensor.shape, ","));
    hash.Add(std::as_bytes(std::span(line)));
  }
  return hash.Hex();
}

}  // namespace

void KeepSoundShards(const std::vector<Shard>& shards, const fs::path& out,
                     Journal* journal) {
  std::vector<Json> notes;
  notes.reserve(shards.size());
  for (const Shard& shard : shards) notes.push_back(journal->Note(shard.file));
  // Not vector<bool>, whose elements are no objects of their own.
  std::vector<char> sound(shards.size(), 0);
  ParallelFor(static_cast<int64_t>(shards.size()), [&](int64_t i) {
    const Json& note = notes[i];
    if (note.is_null() || note.value("layout", "") != LayoutHash(shards[i])) {
      return;
    }
    sound[i] = IsSound(out / shards[i].file, note.value("sha256", "")) ? 1 : 0;
  });
  for (size_t i = 0; i < shards.size(); ++i) {
    if (sound[i]) continue;
    const fs::path path = out / shards[i].file;
    if (!notes[i].is_null()) {
      journal->Say(fmt::format("{}: damaged or lost; it is written again",
                               path.string()));
    }
    journal->DropNote(shards[i].file);
    std::error_code ignored;  // what stays is written over
    fs::remove(path, ignored);
  }
}

void KeepSoundFactors(const CompressPlan& plan, const fs::path& out,
                      Journal* journal) {
  const JobOfTensor job_of = IndexJobs(plan);
  std::vector<char> needed(plan.jobs.size(), plan.options.share ? 1 : 0);
  for (const Shard& shard : plan.shards) {
    if (journal->HasNote(shard.file)) continue;
    for (const size_t job : JobsOf(plan, shard, job_of)) needed[job] = 1;
  }
  std::vector<std::string> expected(plan.jobs.size());
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    const FactorJob& job = plan.jobs[i];
    const Json record = journal->Record(job.layer, *job.kind);
    if (record.is_null()) needed[i] = 0;
    if (needed[i]) expected[i] = record.value("sha256", "");
  }
  std::vector<char> sound(plan.jobs.size(), 1);
  ParallelFor(static_cast<int64_t>(plan.jobs.size()), [&](int64_t i) {
    const FactorJob& job = plan.jobs[i];
    if (!needed[i]) return;
    sound[i] =
        IsSound(FactorsIn(out, job.layer, *job.kind), expected[i]) ? 1 : 0;
  });
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    const FactorJob& job = plan.jobs[i];
    if (sound[i]) continue;
    journal->Forget(job.layer, *job.kind,
                    fmt::format("{}: damaged or lost",
                                FactorsIn(out, job.layer, *job.kind).string()));
  }
}

bool WriteNotedShard(const Shard& shard, const fs::path& out,
                     const TensorSource& source,
                     const std::function<bool(const std::string&)>& is_factor,
                     const PackedPartsFn& packed, Journal* journal) {
  if (journal->HasNote(shard.file)) return false;
  Json tensors = Json::object();
  const FileSum sum = WriteShard(
      out, shard, [&](const TensorDecl& tensor, const ByteSink& sink) {
        if (!is_factor(tensor.name)) {
          source(tensor, sink);
          return;
        }
        Sha256 hash;
        source(tensor, [&](std::span<const std::byte> piece) {
          hash.Add(piece);
          sink(piece);
        });
        tensors[tensor.name] = hash.Hex();
      });
  Json note = {{"bytes", sum.bytes},
               {"sha256", sum.sha256},
               {"layout", LayoutHash(shard)},
               {"tensors", std::move(tensors)}};
  if (packed) note["packed"] = PackedPartsJson(packed());
  journal->SetNote(shard.file, note);
  return true;
}

ShardSums SumsOf(const std::vector<Shard>& shards, const Journal& journal) {
  ShardSums sums;
  for (const Shard& shard : shards) {
    const Json note = journal.Note(shard.file);
    if (note.is_null()) {
      Fail(ErrorKind::kMissing,
           "{}: its note in the journal is gone; run the same command again",
           shard.file);
    }
    sums.files[shard.file] = {note.at("bytes"), note.at("sha256")};
    sums.tensors.update(note.at("tensors"));
    for (const PackedPart& part :
         PackedPartsOf(note.value("packed", Json::array()))) {
      AddPackedPart(part, &sums.packed);
    }
  }
  return sums;
}

std::vector<size_t> WriteReadyShards(
    const OpenedModel& model, const CompressPlan& plan, const fs::path& out,
    const std::vector<bool>& finished, const FactorsOfJob& factors_of,
    Journal* journal, const std::function<void()>& check_stop,
    const std::function<void(size_t shard)>& written) {
  const JobOfTensor job_of = IndexJobs(plan);
  const auto is_factor = [&](const std::string& name) {
    return job_of.contains(name);
  };
  std::optional<ShardRounding> rounding;
  // By job: those of a shard stay open, since an expert has tensors of each.
  std::map<size_t, SafetensorsFile> open;
  const auto factor = [&](const std::string& name) -> const TensorView& {
    if (rounding) return rounding->Factor(name);
    const size_t job = job_of.at(name);
    auto found = open.find(job);
    if (found == open.end()) {
      found = open.try_emplace(job, CheckedFactors(factors_of(plan.jobs[job])))
                  .first;
    }
    return found->second.At(name);
  };
  PlaneWriter planes(
      model, plan.packing,
      [&](const TensorSpec& spec) -> const TensorView& {
        return job_of.contains(spec.name) ? factor(spec.name)
                                          : model.checkpoint.At(spec.name);
      },
      [&](const TensorSpec& spec) {
        return rounding ? (*rounding)->ImportanceOf(spec) : Buffer<float>();
      },
      [&](const TensorSpec& spec) {
        return rounding ? (*rounding)->Find(spec) : nullptr;
      });
  PackedPartsFn packed;
  if (plan.options.pack) packed = [&] { return planes.TakeParts(); };
  const TensorSource source = [&](const TensorDecl& tensor,
                                  const ByteSink& unchecked) {
    const ByteSink sink = [&](std::span<const std::byte> bytes) {
      check_stop();  // rounding a large tensor takes minutes
      unchecked(bytes);
    };
    if (planes.Write(tensor, sink)) {
      const std::string& name = plan.packing.planes.at(tensor.name).spec.name;
      if (!job_of.contains(name)) {
        model.checkpoint.Evict(model.checkpoint.At(name));
      }
    } else if (const Buffer<float>* moved =
                   rounding ? (*rounding)->FindMoved(tensor.name) : nullptr) {
      PassFloats(*moved, tensor.dtype, sink);
    } else if (job_of.contains(tensor.name)) {
      sink(factor(tensor.name).data);
    } else {
      CopyTensor(model.checkpoint, tensor, sink);
    }
  };
  std::set<size_t> needed;
  for (size_t i = 0; i < plan.shards.size(); ++i) {
    const Shard& shard = plan.shards[i];
    if (journal->HasNote(shard.file)) continue;
    const std::set<size_t> jobs = JobsOf(plan, shard, job_of);
    if (std::ranges::all_of(jobs, [&](size_t job) { return finished[job]; })) {
      if (plan.RoundsByText()) {
        rounding.emplace(model, plan, out, jobs, factors_of, check_stop);
      }
      WriteNotedShard(shard, out, source, is_factor, packed, journal);
      open.clear();
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
    const std::set<size_t> jobs = JobsOf(plan, shard, job_of);
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
