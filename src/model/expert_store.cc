#include "model/expert_store.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/progress.h"

namespace mobe {
namespace {

// What lies closer together than that is read at once: a disk has moved as many
// bytes by the time that another request begins.
constexpr int64_t kGap = 64 << 10;

int64_t RoundDown(int64_t offset) {
  return offset / kDirectAlign * kDirectAlign;
}

int64_t RoundUp(int64_t bytes) { return RoundDown(bytes + kDirectAlign - 1); }

struct Extent {
  int64_t shard, begin, end;
};

std::vector<Extent> ExtentsOf(const Checkpoint& checkpoint,
                              const MlpWeights& mapped) {
  std::vector<Plane> planes;
  AddPlanes(mapped, &planes);
  std::vector<Extent> extents;
  for (const Plane& plane : planes) {
    const auto place = checkpoint.Locate(plane.data());
    if (!place) continue;
    extents.push_back({place->shard, place->offset,
                       place->offset + static_cast<int64_t>(plane.size())});
  }
  std::ranges::sort(extents, [](const Extent& a, const Extent& b) {
    return std::pair(a.shard, a.begin) < std::pair(b.shard, b.begin);
  });
  return extents;
}

// Where mapped data is in a record's memory; the data itself when it is not.
const void* Moved(const Checkpoint& checkpoint, const ExpertRecord& record,
                  const void* data, const std::byte* memory) {
  const auto place = checkpoint.Locate(data);
  if (!place) return data;
  for (const ExpertRecord::Range& range : record.ranges) {
    const int64_t within = place->offset - range.offset;
    if (range.shard == place->shard && within >= 0 && within < range.bytes) {
      return memory + range.at + within;
    }
  }
  return data;
}

}  // namespace

ExpertRecord RecordOf(const Checkpoint& checkpoint, const MlpWeights& mapped) {
  ExpertRecord record;
  for (const Extent& extent : ExtentsOf(checkpoint, mapped)) {
    if (!record.ranges.empty()) {
      ExpertRecord::Range& last = record.ranges.back();
      if (last.shard == extent.shard &&
          extent.begin - (last.offset + last.bytes) <= kGap) {
        last.bytes = std::max(last.bytes, extent.end - last.offset);
        continue;
      }
    }
    const int64_t offset = RoundDown(extent.begin);
    record.ranges.push_back({extent.shard, offset, extent.end - offset, 0});
  }
  for (ExpertRecord::Range& range : record.ranges) {
    range.at = record.bytes;
    record.bytes += RoundUp(range.bytes);
  }
  return record;
}

MlpWeights Placed(const Checkpoint& checkpoint, const ExpertRecord& record,
                  const MlpWeights& mapped, std::byte* memory) {
  MlpWeights placed = mapped;
  for (WeightView* w : {&placed.gate, &placed.up, &placed.down}) {
    w->codes = Moved(checkpoint, record, w->codes, memory);
    w->scales = Moved(checkpoint, record, w->scales, memory);
  }
  return placed;
}

int64_t ExpertStore::PlaceBytes(const OpenedModel& model,
                                const Weights& weights) {
  int64_t most = 0;
  for (const LayerWeights& layer : weights.layers) {
    for (const MlpWeights& expert : layer.experts) {
      most = std::max(most, RecordOf(model.checkpoint, expert).bytes);
    }
  }
  return most;
}

ExpertStore::ExpertStore(const OpenedModel& model, const Weights& weights,
                         int64_t bytes)
    : checkpoint_(model.checkpoint),
      weights_(weights),
      num_experts_(model.config.num_experts),
      place_bytes_(PlaceBytes(model, weights)),
      reader_(model.checkpoint.shard_paths()) {
  for (const LayerWeights& layer : weights.layers) {
    for (const MlpWeights& expert : layer.experts) {
      records_.push_back(RecordOf(checkpoint_, expert));
    }
    if (layer.experts.empty()) {
      records_.resize(records_.size() + static_cast<size_t>(num_experts_));
    }
  }
  place_of_.resize(records_.size(), nullptr);
  const auto all = static_cast<int64_t>(std::ranges::count_if(
      records_, [](const ExpertRecord& record) { return record.bytes > 0; }));
  const int64_t room = bytes / std::max<int64_t>(place_bytes_, 1);
  places_.resize(
      static_cast<size_t>(std::max(std::min(room, all), kLeastPlaces)));
}

// The place that was used longest ago and nobody holds; null when all are held.
ExpertStore::Place* ExpertStore::FindRoom() {
  Place* oldest = nullptr;
  for (Place& place : places_) {
    if (place.held) continue;
    // What is still being read was asked for lately, and would be waited for.
    const auto age = [](const Place& p) {
      return std::pair(p.reading, p.used);
    };
    if (oldest == nullptr || age(place) < age(*oldest)) oldest = &place;
  }
  return oldest;
}

void ExpertStore::Finish(Place* place) {
  if (!place->reading) return;
  place->reading = false;
  const double start = MonotonicSeconds();
  try {
    reader_.Wait(&place->read);
  } catch (...) {
    place_of_[static_cast<size_t>(place->key)] = nullptr;
    place->key = -1;
    place->held = false;
    throw;
  }
  statistics_.seconds += MonotonicSeconds() - start;
}

void ExpertStore::Expect(int64_t layer, std::span<const int64_t> experts,
                         Urgency urgency) {
  for (const int64_t expert : experts) {
    const int64_t key = KeyOf(layer, expert);
    Place*& place = place_of_[static_cast<size_t>(key)];
    if (place == nullptr) {
      Place* room = FindRoom();
      const bool is_later = urgency == Urgency::kLater;
      if (room == nullptr || (is_later && room->reading)) return;
      if (room->key >= 0) {
        Finish(room);
        if (room->key >= 0) place_of_[static_cast<size_t>(room->key)] = nullptr;
      }
      if (room->memory == nullptr) room->memory = AllocateAligned(place_bytes_);
      place = room;
      room->key = key;
      room->reading = true;
      const ExpertRecord& record = records_[static_cast<size_t>(key)];
      std::vector<DirectPart> parts;
      for (const ExpertRecord::Range& range : record.ranges) {
        parts.push_back({range.shard, range.offset, range.bytes,
                         room->memory.get() + range.at});
        statistics_.bytes += range.bytes;
      }
      reader_.Start(parts, urgency, &room->read);
      ++statistics_.read;
      if (!is_later) ++statistics_.waited;
    } else if (urgency == Urgency::kNow) {
      if (!place->held) ++statistics_.found;
      if (place->reading) reader_.Hurry(&place->read);
    }
    place->used = ++now_;
    if (urgency == Urgency::kNow) place->held = true;
  }
}

MlpWeights ExpertStore::Take(int64_t layer, int64_t expert) {
  const auto key = static_cast<size_t>(KeyOf(layer, expert));
  if (place_of_[key] == nullptr || !place_of_[key]->held) {
    const int64_t one[] = {expert};
    Expect(layer, one, Urgency::kNow);
  }
  Place* place = place_of_[key];
  if (place == nullptr) {
    Fail(ErrorKind::kInternal, "more experts are held than there is room for");
  }
  Finish(place);
  return Placed(checkpoint_, records_[key],
                weights_.layers[static_cast<size_t>(layer)]
                    .experts[static_cast<size_t>(expert)],
                place->memory.get());
}

void ExpertStore::ReleaseAll() {
  for (Place& place : places_) place.held = false;
}

void ExpertStore::Release(int64_t layer, std::span<const int64_t> experts) {
  for (const int64_t expert : experts) {
    Place* place = place_of_[static_cast<size_t>(KeyOf(layer, expert))];
    if (place != nullptr) place->held = false;
  }
}

}  // namespace mobe
