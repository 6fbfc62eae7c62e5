#include "serve/api.h"

#include <iterator>

#include "base/error.h"

namespace mobe {
namespace {

struct StatusName {
  int status;
  const char* openai;
  const char* anthropic;
};

// Other statuses are as the last one.
constexpr StatusName kStatusNames[] = {
    {400, "invalid_request_error", "invalid_request_error"},
    {401, "authentication_error", "authentication_error"},
    {403, "permission_error", "permission_error"},
    {404, "not_found_error", "not_found_error"},
    {405, "invalid_request_error", "invalid_request_error"},
    {413, "invalid_request_error", "request_too_large"},
    {414, "invalid_request_error", "invalid_request_error"},
    {415, "invalid_request_error", "invalid_request_error"},
    {416, "invalid_request_error", "invalid_request_error"},
    {429, "rate_limit_error", "rate_limit_error"},
    {501, "not_supported_error", "not_supported_error"},
    {503, "overloaded_error", "overloaded_error"},
    {504, "timeout_error", "timeout_error"},
    {500, "server_error", "api_error"},
};

const StatusName& NameOf(int status) {
  for (const StatusName& name : kStatusNames) {
    if (name.status == status) return name;
  }
  return *std::prev(std::end(kStatusNames));
}

}  // namespace

Json ErrorJson(ApiForm form, int status, const std::string& message) {
  if (form == ApiForm::kAnthropic) {
    return {
        {"type", "error"},
        {"error", {{"type", NameOf(status).anthropic}, {"message", message}}}};
  }
  return {{"error",
           {{"message", message},
            {"type", NameOf(status).openai},
            {"param", nullptr},
            {"code", status}}}};
}

OrderedJson ParseOrderedBody(const std::string& body) {
  try {
    return ParseOrderedJson(body, "the request's body");
  } catch (const Error& e) {
    throw ApiError(400, e.what());
  }
}

}  // namespace mobe
