#include "compress/options_text.h"

#include <fmt/core.h>

namespace mobe {
namespace {

std::string Dump(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string OptionText(const Json& value) {
  if (value.is_null() || value.is_object()) return "";
  if (!value.is_array()) return Dump(value);
  std::string text;
  for (const Json& one : value) {
    if (one.is_structured()) return "";
    text += (text.empty() ? "" : " ") + Dump(one);
  }
  return text;
}

std::string OptionsText(const Json& options) {
  std::string text;
  for (const auto& [name, value] : options.items()) {
    const std::string words = OptionText(value);
    if (words.empty() || name == "mobe") continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, words);
  }
  return text;
}

std::vector<FitText> FitTexts(const Json& options) {
  std::vector<FitText> texts;
  const Json fits = options.value("fits", Json::array());
  for (const Json& fit : fits) {
    if (!fit.is_object()) continue;
    texts.push_back({OptionText(fit.value("layers", Json())),
                     OptionsText(fit.value("options", Json::object()))});
  }
  return texts;
}

}  // namespace mobe
