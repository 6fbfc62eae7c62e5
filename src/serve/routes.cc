#include "serve/routes.h"

#include <fmt/format.h>

#include "base/error.h"
#include "serve/handlers.h"

namespace mobe {
namespace {

constexpr HttpRoute kRoutes[] = {
    {"GET", "/v1/models", ListModels},
    {"GET", "/v1/models/{}", DescribeModel},
    {"POST", "/v1/completions", Complete},
    {"POST", "/v1/chat/completions", Chat},
    {"POST", "/v1/embeddings", RefuseEmbeddings},
    {"POST", "/v1/messages", AnswerMessages},
    {"POST", "/v1/messages/count_tokens", CountMessageTokens},
    {"POST", "/tokenize", Tokenize},
    {"POST", "/detokenize", Detokenize},
    {"POST", "/apply-template", ApplyTemplate},
    {"GET", "/metrics", ShowMetrics},
    {"GET", "/props", ShowProperties},
    {"GET", "/report", ShowReport},
};

// What stands for "{}", "" where there is none; nothing: the path is another.
std::optional<std::string> Match(std::string_view pattern,
                                 std::string_view path) {
  const size_t at = pattern.find("{}");
  if (at == std::string_view::npos) {
    return pattern == path ? std::optional<std::string>("") : std::nullopt;
  }
  if (!path.starts_with(pattern.substr(0, at))) return std::nullopt;
  path.remove_prefix(at);
  if (path.empty() || path.find('/') != std::string_view::npos) {
    return std::nullopt;
  }
  return std::string(path);
}

}  // namespace

FoundRoute FindRoute(std::string_view method, std::string_view path) {
  const HttpRoute* other = nullptr;
  for (const HttpRoute& route : kRoutes) {
    const std::optional<std::string> parameter = Match(route.path, path);
    if (!parameter) continue;
    if (method == route.method) return {&route, *parameter};
    other = &route;
  }
  if (other == nullptr) {
    throw ApiError(
        404, OneLine(fmt::format("no {}; GET /openapi.json lists what there is",
                                 path)));
  }
  throw ApiError(405,
                 fmt::format("{}: expected {}", other->path, other->method));
}

ApiForm FormOfPath(std::string_view path) {
  return path.starts_with("/v1/messages") ? ApiForm::kAnthropic
                                          : ApiForm::kOpenAi;
}

}  // namespace mobe
