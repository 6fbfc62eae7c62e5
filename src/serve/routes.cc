#include "serve/routes.h"

#include <fmt/format.h>

#include "base/error.h"
#include "serve/handlers.h"

namespace mobe {
namespace {

constexpr ApiForm kOpenAi = ApiForm::kOpenAi;
constexpr ApiForm kAnthropic = ApiForm::kAnthropic;

constexpr HttpRoute kRoutes[] = {
    {"GET", "/v1/models", kOpenAi, ListModels},
    {"GET", "/v1/models/{}", kOpenAi, DescribeModel},
    {"POST", "/v1/completions", kOpenAi, Complete},
    {"POST", "/v1/chat/completions", kOpenAi, Chat},
    {"POST", "/v1/embeddings", kOpenAi, RefuseEmbeddings},
    {"POST", "/v1/messages", kAnthropic, AnswerMessages},
    {"POST", "/v1/messages/count_tokens", kAnthropic, CountMessageTokens},
    {"POST", "/tokenize", kOpenAi, Tokenize},
    {"POST", "/detokenize", kOpenAi, Detokenize},
    {"POST", "/apply-template", kOpenAi, ApplyTemplate},
    {"GET", "/metrics", kOpenAi, ShowMetrics},
    {"GET", "/props", kOpenAi, ShowProperties},
    {"GET", "/report", kOpenAi, ShowReport},
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

std::span<const HttpRoute> Routes() { return kRoutes; }

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
  return path.starts_with("/v1/messages") ? kAnthropic : kOpenAi;
}

}  // namespace mobe
