// The texts of an answer, while they come.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "model/text_stream.h"
#include "serve/api.h"
#include "serve/sampling.h"
#include "serve/service.h"

namespace mobe {

struct TextPiece {
  size_t text;        // its place among the plans
  std::string piece;  // well-formed UTF-8; may be empty
  // The token that it came with; null: the rest, at a text's end.
  const EngineEvent* event;
};

struct TokenCounts {
  int64_t prompt = 0;  // of each prompt once, however many texts it has
  int64_t cached = 0;  // of these, that were not computed again
  int64_t sampled = 0;
};

class Generation {
 public:
  // Hands the texts to the engine. Throws ApiError: 400 for what the engine
  // refuses, 429 when the queue is full, 503 when the server ends.
  Generation(Service* service, const std::string& client,
             std::vector<TextPlan> plans);

  // Passes the pieces of all texts, each text's in order, until all have ended.
  // `write` is asked all the time whether the client is there. Throws ApiError
  // when a text fails (500) or the request takes too long (504), and
  // ClientIsGone; what has not ended then does not go on.
  void Run(const WriteFn& write,
           const std::function<void(const TextPiece&)>& show);

  size_t texts() const { return texts_.size(); }
  FinishReason reason(size_t text) const {
    return texts_[text].stream.reason();
  }
  // The stop string that ended a text; "": none.
  const std::string& matched(size_t text) const {
    return texts_[text].stream.matched();
  }
  TokenCounts counts() const;

 private:
  struct Text {
    TextStream stream;
    int64_t prompt;  // 0 for one whose prompt was counted before
    int64_t cached = 0;
    int64_t sampled = 0;
    double first = 0;  // when its first token came
  };

  Service* service_;
  double start_;
  std::deque<Text> texts_;
  EngineThread::Ticket ticket_;
};

}  // namespace mobe
