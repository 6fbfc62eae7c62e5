// What the handlers of requests get and give, whatever carries it: server.cc
// brings it to and from HTTP.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "base/ordered_json.h"

namespace mobe {

// Whose form errors and texts have.
enum class ApiForm { kOpenAi, kAnthropic };

// A request that gets no answer, by a status of RFC 9110 and a line for a
// person.
class ApiError : public std::runtime_error {
 public:
  ApiError(int status, const std::string& message)
      : std::runtime_error(message), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

// {"error": {"message", "type", "code"}} or {"type": "error", "error": {...}}
Json ErrorJson(ApiForm form, int status, const std::string& message);

// The client has closed the connection.
struct ClientIsGone {};

// Writes a piece of the body that is on its way to the client. Throws
// ClientIsGone. An empty piece only asks whether the client is there.
using WriteFn = std::function<void(std::string_view)>;

struct ApiRequest {
  std::string body;
  std::string path_parameter;  // what stands for {...} in the path
  std::string client;          // whose request it is: key or address
};

struct ApiReply {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  // Writes the body bit by bit, in place of `body`. What it throws ends the
  // connection, so that the client does not take what it has for the whole.
  std::function<void(const WriteFn&)> stream = nullptr;
};

inline ApiReply JsonReply(const Json& json) { return {.body = json.dump()}; }

// The JSON of a body that has the form `schema` of openapi.json, without the
// members that are null. Throws ApiError (400) that says what is wrong where.
Json ParseBody(const std::string& schema, const std::string& body);

// A body that ParseBody has passed, with the members in their order.
OrderedJson ParseOrderedBody(const std::string& body);

// The file.
std::string_view OpenApiDocument();

}  // namespace mobe
