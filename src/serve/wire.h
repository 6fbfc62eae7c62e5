// What the forms of several APIs have in common on the wire.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/json.h"
#include "serve/api.h"
#include "serve/generation.h"
#include "text/tokenizer.h"

namespace mobe {

// "cmpl-" and 24 hexadecimal digits that nobody can guess.
std::string NewId(const char* prefix);

// The text of one token: UTF-8, or "bytes:\xe2\x82" for one that holds a part
// of a character, as in OpenAI's API.
std::string TokenName(const Tokenizer& tokenizer, int32_t token);

// One event of server-sent events: "data: {...}", after a line with its name,
// if it has one.
std::string SseEvent(const Json& data, const char* name = nullptr);

// What all objects of an answer of OpenAI's have.
class OpenAiAnswer {
 public:
  OpenAiAnswer(const char* id_prefix, std::string model);

  Json With(const char* object, Json choices) const;
  // All of it, with the usage.
  Json Whole(const char* object, Json choices, const TokenCounts& counts) const;
  // The end of a stream; `counts`: of the usage, null if it is not wanted.
  std::string End(const char* object, const TokenCounts* counts) const;

 private:
  std::string id_;
  int64_t created_;
  std::string model_;
};

// "stop" or "length".
const char* OpenAiReason(FinishReason reason);

// An answer while it is generated. `Form` has Begin(), what a stream begins
// with; Piece(piece), which returns what it has for that ("": nothing); End(),
// what comes last; Whole(), the JSON of all pieces together, for an answer that
// is no stream and has none of these; and kForm.
template <class Form>
ApiReply AnswerReply(std::shared_ptr<Generation> generation,
                     std::shared_ptr<Form> form, bool stream) {
  ApiReply reply;
  if (stream) reply.content_type = "text/event-stream";
  reply.stream = [=](const WriteFn& write) {
    try {
      if (stream) write(form->Begin());
      generation->Run(write, [&](const TextPiece& piece) {
        const std::string events = form->Piece(piece);
        if (stream && !events.empty()) write(events);
      });
    } catch (const ApiError& e) {
      // What has been sent can't be taken back: a stream has a form for it, and
      // a whole answer ends without its end.
      if (!stream) throw;
      write(SseEvent(ErrorJson(Form::kForm, e.status(), e.what()),
                     Form::kForm == ApiForm::kAnthropic ? "error" : nullptr));
      return;
    }
    write(stream ? form->End() : form->Whole().dump());
  };
  return reply;
}

}  // namespace mobe
