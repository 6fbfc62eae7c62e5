// HTTP: from sockets to handlers and back, by cpp-httplib, whose threads do no
// more than that.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/stop.h"
#include "serve/service.h"

namespace mobe {

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8080;  // 0: any that is free
  // Keys, one of which each request must have but those for the page and of
  // kOpenPaths (server.cc); empty: none is asked for.
  std::vector<std::string> keys;
  // Origins that browsers may ask from, beside the server's own; "*": any.
  std::vector<std::string> origins;
  int64_t connections = 128;  // at a time; others wait
  int64_t body_bytes = int64_t{16} << 20;
  double read_seconds = 10;   // a client may be silent for, within a request
  double write_seconds = 30;  // and not read its answer for
  // Called with a line for each request: method, path, status, seconds. Never
  // what a request or an answer says.
  std::function<void(const std::string& line)> log;
};

// One model by HTTP. Until it is loaded all but the page, /openapi.json and
// /health are answered with 503.
class Server {
 public:
  // Listens from now on. Fails with kUserInput when it can't.
  explicit Server(const ServerOptions& options);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server();

  // "http://127.0.0.1:8080"
  std::string address() const;

  // Loads the model and answers until `stop` says so; then takes no more
  // requests, and returns when those that were taken are answered. `ready` is
  // called when the model is loaded, `ended` when nothing runs any more. Fails
  // as Service does.
  void Run(const ServiceOptions& options,
           const std::function<void(const Service&)>& ready, const StopFn& stop,
           const std::function<void(const Service&)>& ended);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mobe
