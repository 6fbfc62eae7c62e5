#include "serve/metrics.h"

#include <fmt/format.h>

namespace mobe {
namespace {

std::string Head(const char* name, const char* type, const char* help) {
  return fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name, help, type);
}

}  // namespace

std::string MetricText(const char* name, const char* type, const char* help,
                       double value) {
  return Head(name, type, help) + fmt::format("{} {}\n", name, value);
}

void Metrics::Histogram::Add(double value) {
  for (size_t i = 0; i < kBounds; ++i) counts[i] += value <= bounds[i];
  ++count;
  sum += value;
}

std::string Metrics::Histogram::Text(const char* name, const char* help) const {
  std::string text = Head(name, "histogram", help);
  for (size_t i = 0; i < kBounds; ++i) {
    text +=
        fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, bounds[i], counts[i]);
  }
  return text + fmt::format(
                    "{0}_bucket{{le=\"+Inf\"}} {1}\n{0}_sum {2}\n"
                    "{0}_count {1}\n",
                    name, count, sum);
}

void Metrics::CountRequest(const std::string& path, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{path, status}];
}

void Metrics::AddFirstToken(double seconds) {
  const std::lock_guard lock(mutex_);
  first_token_.Add(seconds);
}

void Metrics::AddTextRate(double tokens_per_second) {
  const std::lock_guard lock(mutex_);
  text_rate_.Add(tokens_per_second);
}

void Metrics::CountGone() {
  const std::lock_guard lock(mutex_);
  ++gone_;
}

std::string Metrics::Text() const {
  const std::lock_guard lock(mutex_);
  std::string text =
      Head("mobe_requests_total", "counter", "Requests by path and status.");
  for (const auto& [key, count] : requests_) {
    text += fmt::format("mobe_requests_total{{path=\"{}\",status=\"{}\"}} {}\n",
                        key.first, key.second, count);
  }
  text += MetricText("mobe_clients_gone_total", "counter",
                     "Answers that the client did not wait for.",
                     static_cast<double>(gone_));
  text += first_token_.Text("mobe_time_to_first_token_seconds",
                            "From a request to its first token.");
  text += text_rate_.Text("mobe_text_tokens_per_second",
                          "Of each text, after its first token.");
  return text;
}

}  // namespace mobe
