#include "serve/generation.h"

#include <chrono>
#include <utility>

#include "base/progress.h"

namespace mobe {
namespace {

// How long a client may be gone before it is noticed, if no token comes.
constexpr std::chrono::milliseconds kPatience(50);

EngineThread::Ticket Submit(Service* service, const std::string& client,
                            const std::vector<TextPlan>& plans) {
  std::vector<EngineRequest> requests;
  for (const TextPlan& plan : plans) requests.push_back(plan.request);
  try {
    return service->engine().Submit(client, std::move(requests));
  } catch (const QueueIsFull& e) {
    throw ApiError(429, e.what());
  } catch (const QueueIsClosed& e) {
    throw ApiError(503, e.what());
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUserInput) throw;
    throw ApiError(400, e.what());
  }
}

}  // namespace

Generation::Generation(Service* service, const std::string& client,
                       std::vector<TextPlan> plans)
    : service_(service),
      start_(MonotonicSeconds()),
      ticket_(Submit(service, client, plans)) {
  const std::vector<int32_t>* previous = nullptr;
  for (TextPlan& plan : plans) {
    const std::vector<int32_t>& prompt = plan.request.prompt;
    const bool again = previous != nullptr && *previous == prompt;
    previous = &prompt;
    texts_.push_back({TextStream(service->tokenizer(), std::move(plan.stop),
                                 plan.skip_special),
                      again ? 0 : std::ssize(prompt)});
  }
}

TokenCounts Generation::counts() const {
  TokenCounts counts;
  for (const Text& text : texts_) {
    counts.prompt += text.prompt;
    if (text.prompt > 0) counts.cached += text.cached;
    counts.sampled += text.sampled;
  }
  return counts;
}

void Generation::Run(const WriteFn& write,
                     const std::function<void(const TextPiece&)>& show) {
  for (size_t left = texts_.size(); left > 0;) {
    const double now = MonotonicSeconds();
    if (now - start_ > service_->options().seconds) {
      throw ApiError(504, fmt::format("the request took longer than {} seconds",
                                      service_->options().seconds));
    }
    const std::optional<TicketEvent> next = ticket_.Next(kPatience);
    write("");
    if (!next) continue;
    const EngineEvent& event = next->event;
    if (event.error) {
      throw ApiError(500, event.error->what());
    }
    Text& text = texts_[next->text];
    if (text.first == 0) {
      text.first = MonotonicSeconds();
      text.cached = event.cached_tokens;
      service_->metrics().AddFirstToken(text.first - start_);
    }
    if (event.token >= 0) ++text.sampled;
    show({next->text, text.stream.Take(event), &event});
    if (!text.stream.over()) continue;
    --left;
    // Of a stop string the engine does not know.
    if (!event.finish) ticket_.Cancel(next->text);
    show({next->text, text.stream.Finish(FinishReason::kLength), nullptr});
    const double seconds = MonotonicSeconds() - text.first;
    if (text.sampled > 1 && seconds > 0) {
      service_->metrics().AddTextRate(static_cast<double>(text.sampled - 1) /
                                      seconds);
    }
  }
}

}  // namespace mobe
