// Experts that come from the disk when they are needed, in a bounded memory:
// those used longest ago make room (least recently used).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "base/direct_reader.h"
#include "model/weights.h"

namespace mobe {

// One expert's matrices: what is read, and where the matrices then are. What
// lies close together in a file is read as one.
struct ExpertRecord {
  struct Range {
    int64_t shard;
    int64_t offset;  // a multiple of kDirectAlign
    int64_t bytes;
    int64_t at;  // in memory; likewise
  };
  std::vector<Range> ranges;
  int64_t bytes = 0;  // of memory
};

// Of an expert whose matrices are mapped. What lies in no file, since it was
// converted at load, stays where it is.
ExpertRecord RecordOf(const Checkpoint& checkpoint, const MlpWeights& mapped);
// The matrices, once the record is in memory.
MlpWeights Placed(const Checkpoint& checkpoint, const ExpertRecord& record,
                  const MlpWeights& mapped, std::byte* memory);

class ExpertStore {
 public:
  struct Statistics {
    int64_t found = 0;   // needed, and there or on the way
    int64_t waited = 0;  // needed, and not
    int64_t read = 0;    // those, and what was guessed
    int64_t bytes = 0;   // of them
    double seconds = 0;  // for which the model stood still
  };

  // Holds as many experts as `bytes` have room for, at least kLeastPlaces. The
  // model and the weights, whose experts are mapped, must outlive the store.
  ExpertStore(const OpenedModel& model, const Weights& weights, int64_t bytes);

  // Two, so that one can be read while the other runs.
  static constexpr int64_t kLeastPlaces = 2;
  int64_t places() const { return std::ssize(places_); }
  // Memory of one expert: the largest of all.
  static int64_t PlaceBytes(const OpenedModel& model, const Weights& weights);

  // Begins to read what of these is not there. Those of kNow stay until they
  // are released; of kLater, as many as there is room for.
  void Expect(int64_t layer, std::span<const int64_t> experts, Urgency urgency);
  // Waits for an expert, which stays until it is released.
  MlpWeights Take(int64_t layer, int64_t expert);
  void Release(int64_t layer, std::span<const int64_t> experts);
  void ReleaseAll();

  const Statistics& statistics() const { return statistics_; }

 private:
  struct Place {
    AlignedMemory memory;
    int64_t key = -1;  // of the expert
    int64_t used = 0;  // when, in calls
    bool held = false;
    bool reading = false;
    DirectRead read;
  };

  int64_t KeyOf(int64_t layer, int64_t expert) const {
    return layer * num_experts_ + expert;
  }
  Place* FindRoom();
  void Finish(Place* place);

  const Checkpoint& checkpoint_;
  const Weights& weights_;
  const int64_t num_experts_;
  int64_t place_bytes_;
  std::vector<ExpertRecord>
      records_;                   // by key; those of dense layers are empty
  std::vector<Place*> place_of_;  // by key; null: not there
  std::deque<Place> places_;
  int64_t now_ = 0;
  Statistics statistics_;
  DirectReader reader_;  // last: it reads into the places
};

}  // namespace mobe
