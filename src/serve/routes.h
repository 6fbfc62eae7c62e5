// The table of what the server answers.
#pragma once

#include <string_view>

#include "serve/api.h"
#include "serve/service.h"

namespace mobe {

struct HttpRoute {
  const char* method;  // "GET" or "POST"
  // Of its parts one may be "{}", which stands for anything but a slash.
  const char* path;
  ApiReply (*handle)(Service* service, const ApiRequest& request);
};

// That of a request, with what stands for "{}". Throws ApiError: 404 for a path
// that there is not, 405 for another method.
struct FoundRoute {
  const HttpRoute* route;
  std::string parameter;
};
FoundRoute FindRoute(std::string_view method, std::string_view path);

// The form of errors of a path, whether it is one or not.
ApiForm FormOfPath(std::string_view path);

}  // namespace mobe
