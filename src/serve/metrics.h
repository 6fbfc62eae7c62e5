// Counters of requests, for /metrics.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

namespace mobe {

// Any thread's.
class Metrics {
 public:
  // A request was answered with this status.
  void CountRequest(const std::string& path, int status);
  // From a request's arrival to the first token of one of its texts.
  void AddFirstToken(double seconds);
  // Of a text that ended: tokens a second after its first.
  void AddTextRate(double tokens_per_second);
  // Of an answer that was not finished, as the client was gone.
  void CountGone();

  // Prometheus' text format 0.0.4.
  std::string Text() const;

 private:
  // Counts of values up to each bound, as Prometheus wants them.
  struct Histogram {
    static constexpr size_t kBounds = 12;
    std::array<double, kBounds> bounds;
    std::array<int64_t, kBounds> counts = {};
    int64_t count = 0;
    double sum = 0;

    void Add(double value);
    std::string Text(const char* name, const char* help) const;
  };

  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> requests_;
  int64_t gone_ = 0;
  Histogram first_token_ = {
      {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}};
  Histogram text_rate_ = {
      {0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500}};
};

// A metric of one value: HELP, TYPE and the value. `type`: "counter" or
// "gauge".
std::string MetricText(const char* name, const char* type, const char* help,
                       double value);

}  // namespace mobe
