#include "text/chat_template.h"

#include <algorithm>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/text_file.h"
#include "text/chat_messages.h"
#include "text/special_tokens.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

constexpr const char* kKey = "chat_template";
constexpr const char* kDefault = "default";
constexpr const char* kToolUse = "tool_use";

struct Source {
  std::string text;
  std::string where;
};
using Sources = std::map<std::string, Source>;  // by name

Source ReadSource(const fs::path& file) {
  return {ReadSmallFile(file, jinja::kMaxTemplateBytes), file.string()};
}

// A template of its own is the default one.
Sources FromFiles(const fs::path& folder) {
  Sources sources;
  const fs::path file = folder / "chat_template.jinja";
  if (IsNamed(file)) sources[kDefault] = ReadSource(file);
  const fs::path more = folder / "additional_chat_templates";
  if (!IsNamed(more)) return sources;
  for (const std::string& name : ListFolder(more)) {
    const fs::path path = more / name;
    if (path.extension() == ".jinja") {
      sources[path.stem().string()] = ReadSource(path);
    }
  }
  return sources;
}

[[noreturn]] void FailAtEntry(const std::string& where) {
  Fail(ErrorKind::kCorruptFile,
       "{}: chat_template must be a text, an object of named texts or a list "
       "of objects with name and template",
       where);
}

// From the value of chat_template in the file `where`.
Sources FromJson(const Json& json, const std::string& where) {
  Sources sources;
  const auto add = [&](const Json& name, const Json& text) {
    if (!name.is_string() || !text.is_string()) FailAtEntry(where);
    sources[name.get<std::string>()] = {text.get<std::string>(), where};
  };
  if (json.is_string()) {
    add(kDefault, json);
  } else if (json.is_object()) {
    for (const auto& [name, text] : json.items()) add(name, text);
  } else if (json.is_array()) {
    for (const Json& entry : json) {
      if (!entry.is_object()) FailAtEntry(where);
      add(entry.value("name", Json()), entry.value("template", Json()));
    }
  } else if (!json.is_null()) {
    FailAtEntry(where);
  }
  return sources;
}

Sources ReadSources(const fs::path& folder, const Json& config) {
  Sources sources = FromFiles(folder);
  if (!sources.empty()) return sources;
  sources = FromJson(config.value(kKey, Json()),
                     (folder / "tokenizer_config.json").string());
  if (!sources.empty()) return sources;
  const fs::path file = folder / "chat_template.json";
  return FromJson(ReadJsonObject(file).value(kKey, Json()), file.string());
}

std::string Names(const Sources& sources) {
  std::string names;
  for (const auto& [name, unused] : sources) {
    names += (names.empty() ? "" : ", ") + Excerpt(Json(name));
  }
  return names;
}

Source Choose(Sources sources, const fs::path& folder, const std::string& which,
              bool with_tools) {
  if (!which.empty()) {
    if (sources.contains(which)) return std::move(sources[which]);
    Fail(ErrorKind::kMissing,
         "{}: neither a file nor the name of a chat template of {}, which has "
         "{}",
         which, folder.string(), sources.empty() ? "none" : Names(sources));
  }
  if (sources.empty()) {
    Fail(ErrorKind::kMissing,
         "{} has no chat template, neither chat_template.jinja nor "
         "chat_template in tokenizer_config.json, as is usual for a base "
         "model; --template names a file with one",
         folder.string());
  }
  if (with_tools && sources.contains(kToolUse)) {
    return std::move(sources[kToolUse]);
  }
  if (sources.contains(kDefault)) return std::move(sources[kDefault]);
  Fail(ErrorKind::kUserInput,
       "{} has chat templates of the names {}, but none is the default one: "
       "--template names one",
       folder.string(), Names(sources));
}

bool IsListOfObjects(const OrderedJson& json) {
  return json.is_array() && std::ranges::all_of(json, [](const auto& item) {
           return item.is_object();
         });
}

}  // namespace

ChatTemplate ChatTemplate::Load(const fs::path& folder,
                                const std::string& which, bool with_tools) {
  if (!IsFolder(folder)) {
    Fail(ErrorKind::kMissing, "{}: no such folder", folder.string());
  }
  const Json config = ReadJsonObject(folder / "tokenizer_config.json");
  const bool is_file = !which.empty() && Exists(which);
  const Source source =
      is_file ? Source{ReadTextFile(which, jinja::kMaxTemplateBytes), which}
              : Choose(ReadSources(folder, config), folder, which, with_tools);
  return {source.text, source.where, ReadSpecialTokens(folder, config)};
}

std::string ChatTemplate::Render(const OrderedJson& messages,
                                 const ChatOptions& options) const {
  if (!IsListOfObjects(messages) || messages.empty()) {
    Fail(ErrorKind::kUserInput,
         "the messages must be a list, not empty, of objects with role and "
         "content");
  }
  if (!options.tools.is_null() && !IsListOfObjects(options.tools)) {
    Fail(ErrorKind::kUserInput, "the tools must be a list of objects");
  }
  OrderedJson variables = special_tokens_;
  variables["messages"] = nullptr;
  variables["tools"] = options.tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = options.add_generation_prompt;
  for (const auto& [name, value] : options.arguments.items()) {
    variables[name] = value;
  }
  const auto render = [&](OrderedJson prepared) {
    variables["messages"] = std::move(prepared);
    return template_.Render(variables);
  };
  const OrderedJson given = WithReasoning(
      messages, [this](auto name) { return template_.Reads(name); });
  const OrderedJson parsed = WithParsedArguments(given);
  try {
    return render(parsed);
  } catch (const Error& e) {
    // DeepSeek-V3's and the like put the arguments together with other texts,
    // and can't with an object.
    if (e.kind() != ErrorKind::kUserInput || parsed == given) throw;
    try {
      return render(given);
    } catch (const Error&) {
    }
    throw;
  }
}

}  // namespace mobe
