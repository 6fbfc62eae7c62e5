#include "eval/comparison.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/error.h"
#include "base/progress.h"
#include "eval/estimate_json.h"

namespace mobe {

namespace {

// What each text has of a model.
struct TextColumn {
  const char* title;
  std::optional<Estimate> (*of)(const OnText& on);
  const char* sign;  // "%": times 100
  int digits;        // behind the point, for people
};
constexpr TextColumn kTextColumns[] = {
    {"KLD", [](const OnText& on) { return on.kld; }, "", 5},
    {"top-1", [](const OnText& on) { return on.top1_agreement; }, "%", 2},
    {"perplexity",
     [](const OnText& on) { return std::optional(on.perplexity); }, "", 3},
};

std::string CellOf(const TextColumn& column, const OnText& on, CellsFor whom) {
  const std::optional<Estimate> estimate = column.of(on);
  if (!estimate) return "";
  if (whom == CellsFor::kPrograms) return fmt::format("{}", estimate->value);
  const double unit = *column.sign == '%' ? 100 : 1;
  return fmt::format("{:.{}f}{}", unit * estimate->value, column.digits,
                     column.sign);
}

// Whether any model has a value there: a model alone has nothing to be
// compared with.
bool HasValues(const Comparison& comparison, const TextColumn& column) {
  return std::ranges::any_of(comparison.models, [&](const auto& model) {
    return std::ranges::any_of(model.texts, [&](const OnText& on) {
      return column.of(on).has_value();
    });
  });
}

std::string BytesCell(int64_t bytes, CellsFor whom) {
  return whom == CellsFor::kPrograms ? std::to_string(bytes)
                                     : FormatBytes(static_cast<double>(bytes));
}

std::string SpeedCell(const ComparedModel& model, CellsFor whom) {
  if (!model.tokens_per_second) return "";
  return whom == CellsFor::kPrograms
             ? fmt::format("{}", *model.tokens_per_second)
             : fmt::format("{:.1f}", *model.tokens_per_second);
}

}  // namespace

Cells ComparisonCells(const Comparison& comparison, CellsFor whom) {
  Cells cells = {{"model", "bytes"}};
  for (const ComparedModel& model : comparison.models) {
    cells.push_back({model.name, BytesCell(model.bytes, whom)});
  }
  for (size_t text = 0; text < comparison.texts.size(); ++text) {
    // Of one text they needn't say which.
    const std::string of =
        comparison.texts.size() == 1 ? "" : comparison.texts[text] + " ";
    for (const TextColumn& column : kTextColumns) {
      if (!HasValues(comparison, column)) continue;
      cells[0].push_back(of + column.title);
      for (size_t i = 0; i < comparison.models.size(); ++i) {
        cells[i + 1].push_back(
            CellOf(column, comparison.models[i].texts[text], whom));
      }
    }
  }
  const bool timed = std::ranges::any_of(
      comparison.models,
      [](const auto& model) { return model.tokens_per_second.has_value(); });
  if (!timed) return cells;
  cells[0].emplace_back("tok/s");
  for (size_t i = 0; i < comparison.models.size(); ++i) {
    cells[i + 1].push_back(SpeedCell(comparison.models[i], whom));
  }
  return cells;
}

Json ComparisonJson(const Comparison& comparison) {
  Json models = Json::array();
  for (const ComparedModel& model : comparison.models) {
    Json texts = Json::array();
    for (const OnText& on : model.texts) {
      Json& text = texts.emplace_back(Json::object());
      AddEstimate("ppl", on.perplexity, &text);
      if (on.kld) AddEstimate("kld", *on.kld, &text);
      if (on.top1_agreement) {
        AddEstimate("top1_agreement", *on.top1_agreement, &text);
      }
    }
    Json& entry = models.emplace_back(Json::object());
    entry = {{"model", model.name}, {"bytes", model.bytes}, {"texts", texts}};
    if (model.tokens_per_second) {
      entry["tokens_per_second"] = *model.tokens_per_second;
    }
  }
  return {{"texts", comparison.texts}, {"models", models}};
}

Comparison ReadComparisonJson(const Json& json, const std::string& source) {
  Comparison comparison;
  try {
    comparison.texts = json.at("texts").get<std::vector<std::string>>();
    for (const Json& entry : json.at("models")) {
      ComparedModel& model = comparison.models.emplace_back();
      model.name = entry.at("model").get<std::string>();
      model.bytes = entry.at("bytes").get<int64_t>();
      if (entry.contains("tokens_per_second")) {
        model.tokens_per_second = entry.at("tokens_per_second").get<double>();
      }
      const auto estimate = [](const Json& text, const std::string& key) {
        return text.contains(key) ? std::optional(ReadEstimate(text, key))
                                  : std::nullopt;
      };
      for (const Json& text : entry.at("texts")) {
        model.texts.push_back({ReadEstimate(text, "ppl"), estimate(text, "kld"),
                               estimate(text, "top1_agreement")});
      }
      // Each row of the table is as long as its titles.
      if (model.texts.size() == comparison.texts.size()) continue;
      Fail(ErrorKind::kCorruptFile,
           "{}: model {} has {} texts, expected {}; give a file with what mobe "
           "table --json prints",
           source, model.name, model.texts.size(), comparison.texts.size());
    }
  } catch (const Json::exception& e) {
    Fail(ErrorKind::kCorruptFile,
         "{}: not what mobe table --json prints ({}); give a file with that",
         source, ParserMessage(e));
  }
  return comparison;
}

}  // namespace mobe
