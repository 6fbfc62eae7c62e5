// mobe serve: a model by HTTP.
#include <fmt/core.h>

#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/text_file.h"
#include "cli/commands.h"
#include "cli/expect.h"
#include "cli/run_options.h"
#include "cli/stop_signals.h"
#include "io/hub.h"
#include "serve/server.h"

namespace mobe {
namespace {

struct ServeArguments {
  ServerOptions server;
  ServiceOptions service;
  std::string model;
  std::string keys_file;
  int64_t max_body_mb = 16;
  bool log = false;
};

// A key a line; blank lines and those that begin with # are none.
std::vector<std::string> ReadKeys(const std::string& file) {
  constexpr size_t kLeast = 16;
  std::vector<std::string> keys;
  for (std::string& key : LinesOf(ReadTextFile(file))) {
    while (!key.empty() &&
           std::isspace(static_cast<unsigned char>(key.back()))) {
      key.pop_back();
    }
    if (key.empty() || key.starts_with('#')) continue;
    if (key.size() < kLeast) {
      Fail(ErrorKind::kUserInput,
           "{}: key {} has {} characters; expected {} or more, as of openssl "
           "rand -hex 32",
           file, keys.size() + 1, key.size(), kLeast);
    }
    keys.push_back(std::move(key));
  }
  if (keys.empty()) {
    Fail(ErrorKind::kUserInput, "{}: no keys, expected one a line", file);
  }
  return keys;
}

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

void RunServe(ServeArguments options, const CommonOptions& common) {
  CheckModelFolder(options.model);
  options.service.folder = options.model;
  if (options.service.name.empty()) {
    const auto path = std::filesystem::weakly_canonical(options.model);
    options.service.name = path.filename().string();
  }
  if (!options.keys_file.empty()) {
    options.server.keys = ReadKeys(options.keys_file);
  } else if (!IsLoopback(options.server.host)) {
    PrintWarning(
        fmt::format("--host {} without --keys: whoever reaches this "
                    "machine may use the model",
                    options.server.host));
  }
  options.server.body_bytes = options.max_body_mb << 20;
  if (options.log) options.server.log = PrintNote;
  const StopFn stop = StopOnSignals();
  Server server(options.server);
  if (!common.quiet) {
    PrintNote(fmt::format("{} loads {}", server.address(), options.model));
  }
  const auto ready = [&](const Service& service) {
    PrintMemory(service.model(), common);
    // What a script waits for.
    Print("{} serves {}\n", server.address(), options.service.name);
    if (!common.quiet && IsLoopback(options.server.host)) {
      PrintNote(
          "Ctrl-C ends it when what was asked for is answered, a second "
          "one at once");
    }
  };
  const auto ended = [&](const Service& service) {
    const RunStatistics run = service.model().statistics();
    PrintSpeed(run, common);
    PrintExperts(service.model(), run, common);
  };
  server.Run(options.service, ready, stop, ended);
}

}  // namespace

void AddServe(CLI::App& app, CommonOptions* common) {
  CLI::App* command = app.add_subcommand(
      "serve", "answer requests by HTTP: OpenAI's API and a web page");
  auto options = std::make_shared<ServeArguments>();
  options->service.load = kTextOptions;
  ServerOptions& server = options->server;
  ServiceOptions& service = options->service;
  EngineOptions& engine = service.queue.engine;
  ExpectModel(command->add_option("model", options->model, "model folder"));
  const auto add = [command](const char* option, auto* value,
                             const char* help) {
    return command->add_option(option, *value, help)->capture_default_str();
  };
  add("--host", &server.host, "address to listen on");
  ExpectWhole(add("--port", &server.port, "and port; 0: any that is free"), 0,
              65535);
  command->add_option("--keys", options->keys_file,
                      "file of keys, a line each, one of which a request needs "
                      "(default: none is asked for)");
  command
      ->add_option("--origin", server.origins,
                   "origin of web pages that may ask, as "
                   "https://example.org; may be given several times; *: any")
      ->allow_extra_args(false);
  command->add_option("--name", service.name,
                      "of the model, in answers (default: its folder's)");
  command->add_option("--template", service.chat_template,
                      "file with the chat template, or the name of one of the "
                      "model's");
  ExpectWhole(
      add("--sequences", &engine.sequences, "texts that are computed together"),
      1, 4096);
  ExpectWhole(add("--cache-tokens", &engine.cache_tokens,
                  "tokens of all their contexts together, and of one at most"),
              1, int64_t{1} << 40);
  ExpectWhole(add("--step-tokens", &engine.step_tokens,
                  "tokens of a step: more is faster, and lets texts "
                  "wait longer for prompts of others"),
              1, 1 << 20);
  ExpectWhole(add("--queue", &service.queue.waiting,
                  "requests that may wait; more are refused (429)"),
              0, 1 << 20);
  ExpectWhole(add("--connections", &server.connections,
                  "clients that are connected at a time"),
              1, 1 << 16);
  ExpectNumber(
      add("--timeout", &service.seconds, "seconds that a request may take"),
      "a number above 0", [](double s) { return s > 0; });
  ExpectWhole(
      add("--max-body", &options->max_body_mb, "MiB of a request at most"), 1,
      1 << 14);
  command->add_flag("--log", options->log,
                    "a line on stderr for each request: path, status, time");
  AddRunOptions(command, &options->service.load);
  AddVerbose(command, common);
  AddCommonOptions(command, common, JsonOutput::kNo);
  command->callback([options, common] { RunServe(*options, *common); });
}

}  // namespace mobe
