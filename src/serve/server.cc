#include "serve/server.h"

#include <fmt/format.h>
#include <httplib.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <optional>
#include <thread>

#include "base/embedded.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/thread.h"
#include "base/visible.h"
#include "serve/api.h"
#include "serve/routes.h"
#include "serve/worker_pool.h"

namespace mobe {
namespace {

using httplib::Request;
using httplib::Response;

// For these no key is asked: what a supervisor has to see first, and that tells
// nothing of requests. Nor for the page, which asks the user for it.
constexpr const char* kOpenPaths[] = {"/health", "/openapi.json"};

// The page loads nothing from elsewhere, runs no other script than its own
// files, and no other page may show it.
constexpr const char* kPagePolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// Whatever is answered, a browser that opens it runs nothing. The report has
// its styles in itself, and the page shows it.
constexpr const char* kAnswerPolicy =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

constexpr std::chrono::milliseconds kTick(20);

// Takes as long for any two texts of a length.
bool IsEqual(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned char>(a[i] ^ b[i]);
  }
  return difference == 0;
}

// OpenAI's clients send "Authorization: Bearer KEY", Anthropic's "x-api-key".
std::string KeyOf(const Request& request) {
  constexpr std::string_view kBearer = "Bearer ";
  const std::string value = request.get_header_value("Authorization");
  if (value.starts_with(kBearer)) return value.substr(kBearer.size());
  return request.get_header_value("x-api-key");
}

time_t WholeSeconds(double seconds) {
  return static_cast<time_t>(std::ceil(seconds));
}

int StatusOf(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::kUserInput:
      return 400;
    case ErrorKind::kUnsupported:
      return 501;
    case ErrorKind::kOutOfMemory:
      return 503;
    default:
      return 500;
  }
}

// The body as it is when it is unpacked; nothing where that is of more than
// `most` bytes. The library bounds what a header says of the length alone. What
// is not kept is read all the same, since the connection's next request begins
// behind it.
std::optional<std::string> ReadBody(const Request& request,
                                    const httplib::ContentReader& reader,
                                    int64_t most, const Response& response) {
  std::string body;
  bool fits = true;
  const auto add = [&](const char* data, size_t size) {
    fits = fits && size <= static_cast<size_t>(most) - body.size();
    if (fits) body.append(data, size);
    if (!fits) std::string().swap(body);
    return true;
  };
  if (request.is_multipart_form_data()) {
    const auto skip = [](const char*, size_t) { return true; };
    reader([](const httplib::MultipartFormData&) { return true; }, skip);
    return body;  // no request is of that type
  }
  if (!reader(add)) {
    if (response.status == 413) return std::nullopt;
    throw ApiError(400,
                   "the body can't be read: expected as much as its "
                   "headers tell, in an encoding that they name");
  }
  if (!fits) return std::nullopt;
  return body;
}

// What the library refuses before anybody here sees it.
std::string RefusalOf(int status) {
  switch (status) {
    case 400:
      return "expected a request of HTTP/1.1 with a known method, and lines of "
             "a header of 8 KiB at most";
    case 414:
      return "expected a path of 8 KiB at most";
    case 416:
      return "expected a range within the file";
    default:
      return fmt::format("status {}", status);
  }
}

// The page's own files. They change only with the program, which a browser
// can't know.
void SendPageFile(std::string_view name, Response& response) {
  const std::string_view file = EmbeddedFile(name);
  if (file.empty()) {
    response.status = 404;
    return;
  }
  response.set_header("Content-Security-Policy", kPagePolicy);
  response.set_header("X-Content-Type-Options", "nosniff");
  response.set_header("Referrer-Policy", "no-referrer");
  response.set_header("Cache-Control", "no-cache");
  response.set_content(file.data(), file.size(),
                       name.ends_with(".js")    ? "text/javascript"
                       : name.ends_with(".css") ? "text/css"
                                                : "text/html; charset=utf-8");
}

}  // namespace

struct Server::State {
  explicit State(const ServerOptions& o) : options(o) {}

  ServerOptions options;
  httplib::Server http;
  int port = 0;
  std::atomic<Service*> service = nullptr;  // null: not loaded
  std::atomic<bool> closing = false;
  std::atomic<int64_t> open = 0;  // requests that are being answered
  std::thread listener;
  std::atomic<bool> listens = true;  // until the listener has ended

  // `reader`: of the body, where such a request has one.
  void Answer(const Request& request, const httplib::ContentReader* reader,
              Response& response);
  void Reply(const Request& request, ApiReply reply, double start,
             Response& response);
  void Fail(const Request& request, int status, const std::string& message,
            Response& response);
  ApiReply Handle(const Request& request, std::string body, std::string* path);
  void Log(const std::string& method, const std::string& path, int status,
           double seconds) const;
  void AllowOrigin(const Request& request, Response& response) const;
  bool HasKey(const Request& request) const;
  // Ends all threads of the library's.
  void End();
};

void Server::State::End() {
  // The library does not hear a stop before it has begun.
  while (listener.joinable() && listens && !http.is_running()) {
    std::this_thread::sleep_for(kTick);
  }
  http.stop();
  if (listener.joinable()) listener.join();
}

// All keys are compared, so that time does not tell which was nearly right.
bool Server::State::HasKey(const Request& request) const {
  if (options.keys.empty()) return true;
  if (std::ranges::count(kOpenPaths, request.path) > 0) return true;
  const std::string given = KeyOf(request);
  bool found = false;
  for (const std::string& key : options.keys) found |= IsEqual(given, key);
  return found;
}

void Server::State::AllowOrigin(const Request& request,
                                Response& response) const {
  const std::string origin = request.get_header_value("Origin");
  if (origin.empty()) return;
  const bool any = std::ranges::count(options.origins, "*") > 0;
  if (!any && std::ranges::count(options.origins, origin) == 0) return;
  response.set_header("Access-Control-Allow-Origin", any ? "*" : origin);
  response.set_header("Vary", "Origin");
  if (request.method != "OPTIONS") return;
  response.set_header("Access-Control-Allow-Methods", "GET, POST");
  response.set_header("Access-Control-Allow-Headers",
                      "Authorization, Content-Type, x-api-key, "
                      "anthropic-version");
  response.set_header("Access-Control-Max-Age", "3600");
}

void Server::State::Log(const std::string& method, const std::string& path,
                        int status, double seconds) const {
  if (!options.log) return;
  options.log(
      OneLine(fmt::format("{} {} {} {:.3f} s", method, path, status, seconds)));
}

void Server::State::Fail(const Request& request, int status,
                         const std::string& message, Response& response) {
  response.status = status;
  if (status == 429 || status == 503) response.set_header("Retry-After", "1");
  if (status == 401) response.set_header("WWW-Authenticate", "Bearer");
  response.set_content(
      ErrorJson(FormOfPath(request.path), status, message).dump(),
      "application/json");
}

// `path` becomes that of the route, for the counters: what clients invent is
// not counted each by itself.
ApiReply Server::State::Handle(const Request& request, std::string body,
                               std::string* path) {
  Service* const loaded = service;
  if (request.path == "/health") {
    *path = request.path;
    if (loaded != nullptr && !closing) return JsonReply({{"status", "ok"}});
    ApiReply reply = JsonReply({{"status", closing ? "closing" : "loading"}});
    reply.status = 503;
    return reply;
  }
  if (request.path == "/openapi.json") {
    *path = request.path;
    return {.body = std::string(OpenApiDocument())};
  }
  const FoundRoute found = FindRoute(request.method, request.path);
  *path = found.route->path;
  if (closing) throw ApiError(503, "the server is shutting down");
  if (loaded == nullptr) throw ApiError(503, "the model is being loaded");
  if (request.method == "POST" && !request.get_header_value("Content-Type")
                                       .starts_with("application/json")) {
    // So that no page of another origin can post without being asked for CORS.
    throw ApiError(415, "expected a body of type application/json");
  }
  ApiRequest api{std::move(body), found.parameter, KeyOf(request)};
  if (api.client.empty()) api.client = request.remote_addr;
  return found.route->handle(loaded, api);
}

void Server::State::Answer(const Request& request,
                           const httplib::ContentReader* reader,
                           Response& response) {
  const double start = MonotonicSeconds();
  std::string path = "other";
  AllowOrigin(request, response);
  response.set_header("X-Content-Type-Options", "nosniff");
  response.set_header("Content-Security-Policy", kAnswerPolicy);
  try {
    const bool has_key = HasKey(request);
    std::optional<std::string> body = std::string();
    if (reader != nullptr) {
      body = ReadBody(request, *reader, has_key ? options.body_bytes : 0,
                      response);
    }
    if (!has_key) {
      throw ApiError(401,
                     "expected a key, as \"Authorization: Bearer KEY\" or "
                     "\"x-api-key: KEY\"");
    }
    if (!body) {
      throw ApiError(413, fmt::format("the body is larger than {} bytes",
                                      options.body_bytes));
    }
    Reply(request, Handle(request, *std::move(body), &path), start, response);
  } catch (const ApiError& e) {
    Fail(request, e.status(), e.what(), response);
  } catch (const Error& e) {
    Fail(request, StatusOf(e), e.what(), response);
  } catch (const std::bad_alloc&) {
    Fail(request, 503, "out of memory", response);
  } catch (const std::exception& e) {
    Fail(request, 500, OneLine(fmt::format("internal error: {}", e.what())),
         response);
  }
  if (Service* const loaded = service) {
    loaded->metrics().CountRequest(path, response.status);
  }
  Log(request.method, request.path, response.status,
      MonotonicSeconds() - start);
}

void Server::State::Reply(const Request& request, ApiReply reply, double start,
                          Response& response) {
  response.status = reply.status;
  if (!reply.stream) {
    response.set_content(std::move(reply.body), reply.content_type.c_str());
    return;
  }
  response.set_header("Cache-Control", "no-cache");
  ++open;
  response.set_chunked_content_provider(
      reply.content_type.c_str(),
      [this, stream = std::move(reply.stream)](size_t,
                                               httplib::DataSink& sink) {
        const WriteFn write = [&](std::string_view piece) {
          if (!sink.is_writable()) throw ClientIsGone();
          if (!piece.empty() && !sink.write(piece.data(), piece.size())) {
            throw ClientIsGone();
          }
        };
        try {
          stream(write);
        } catch (const ClientIsGone&) {
          service.load()->metrics().CountGone();
          return false;
        } catch (const std::exception& e) {
          // The answer ends without its end, so nobody takes it for whole.
          if (options.log) options.log(OneLine(e.what()));
          return false;
        }
        sink.done();
        return true;
      },
      [this, method = request.method, path = request.path, start](bool) {
        --open;
        Log(method, path + " (whole)", 200, MonotonicSeconds() - start);
      });
}

Server::Server(const ServerOptions& options)
    : state_(std::make_unique<State>(options)) {
  httplib::Server& http = state_->http;
  http.new_task_queue = [n = options.connections] { return new WorkerPool(n); };
  // The library's default lets two servers share a port.
  http.set_socket_options([](auto socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  http.set_tcp_nodelay(true);
  http.set_payload_max_length(static_cast<size_t>(options.body_bytes));
  http.set_read_timeout(WholeSeconds(options.read_seconds), 0);
  http.set_write_timeout(WholeSeconds(options.write_seconds), 0);
  http.set_keep_alive_max_count(1000);
  State* const state = state_.get();
  http.set_error_handler([state](const Request& request, Response& response) {
    if (!response.body.empty()) return;
    state->Fail(request, response.status, RefusalOf(response.status), response);
  });
  http.Get("/", [](const Request&, Response& response) {
    SendPageFile("page.html", response);
  });
  http.Get(R"(/page/([a-z]+\.(?:js|css)))",
           [](const Request& request, Response& response) {
             SendPageFile(request.matches[1].str(), response);
           });
  http.Get(".*", [state](const Request& request, Response& response) {
    state->Answer(request, nullptr, response);
  });
  const auto answer = [state](const Request& request, Response& response,
                              const httplib::ContentReader& reader) {
    state->Answer(request, &reader, response);
  };
  http.Post(".*", answer);
  http.Put(".*", answer);
  http.Patch(".*", answer);
  http.Delete(".*", answer);
  http.Options(".*", [state](const Request& request, Response& response) {
    state->AllowOrigin(request, response);
    response.status = 204;
  });

  state_->port = options.port;
  const bool bound =
      options.port == 0
          ? (state_->port = http.bind_to_any_port(options.host)) > 0
          : http.bind_to_port(options.host, options.port);
  if (!bound) {
    mobe::Fail(ErrorKind::kUserInput,
               "cannot listen on {} port {}: expected an address of this "
               "machine and a port that no other program has",
               options.host, options.port);
  }
  state_->listener = StartThread([state] {
    state->http.listen_after_bind();
    state->listens = false;
  });
}

Server::~Server() { state_->End(); }

std::string Server::address() const {
  const std::string& host = state_->options.host;
  const bool is_v6 = host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}", is_v6 ? "[" : "", host,
                     is_v6 ? "]" : "", state_->port);
}

void Server::Run(const ServiceOptions& options,
                 const std::function<void(const Service&)>& ready,
                 const StopFn& stop,
                 const std::function<void(const Service&)>& ended) {
  Service service(options);
  state_->service = &service;
  ready(service);
  while (!stop()) std::this_thread::sleep_for(kTick);
  state_->closing = true;
  service.engine().Close();
  while (state_->open > 0 || !service.engine().idle()) {
    std::this_thread::sleep_for(kTick);
  }
  // Threads may still look at the service: they end before it does.
  state_->End();
  state_->service = nullptr;
  ended(service);
}

}  // namespace mobe
