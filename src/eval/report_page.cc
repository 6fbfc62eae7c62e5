// The page of `mobe report`: sections of tables and charts, one style sheet.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/progress.h"
#include "base/visible.h"
#include "compress/options_text.h"
#include "compress/worst_expert.h"
#include "eval/eval_table.h"
#include "eval/report.h"
#include "eval/report_svg.h"

namespace mobe {
namespace {

constexpr char kStyle[] = R"css(
:root { color-scheme: light dark; --back: #fff; --text: #1c1e21;
  --faint: #5c6370; --line: #d8dbe0; --panel: #f5f6f8; }
@media (prefers-color-scheme: dark) { :root { --back: #15171a; --text: #e4e6ea;
  --faint: #9aa1ad; --line: #363a42; --panel: #1e2126; } }
body { background: var(--back); color: var(--text); margin: 2em auto;
  max-width: 920px; padding: 0 1em; font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6em; margin-bottom: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2em; margin-top: 2.2em; border-bottom: 1px solid var(--line); }
p.note, figcaption { color: var(--faint); }
table { display: block; overflow-x: auto; border-collapse: collapse;
  margin: .8em 0; font-variant-numeric: tabular-nums; }
th, td { padding: .15em .9em .15em 0; text-align: right; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, .words td { text-align: left; }
.words th { text-align: left; }
td { white-space: nowrap; }
.words td { white-space: normal; }
td.hash, code { font-family: ui-monospace, monospace; font-size: .85em;
  overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: .8em; margin: 1.2em 0; }
.tiles div { background: var(--panel); border-radius: 6px; padding: .6em 1em;
  flex: 1 1 8em; }
.tiles b { display: block; font-size: 1.35em; }
.tiles span { color: var(--faint); font-size: .85em; }
figure { margin: 1em 0; }
.panels { display: flex; flex-wrap: wrap; gap: 1em; }
.wide { overflow-x: auto; }
.chart { max-width: 100%; height: auto; }
.chart text { fill: var(--text); font: 11px system-ui, sans-serif; }
.chart text.title { font-size: 13px; font-weight: 600; }
.chart text.tick { fill: var(--faint); }
.chart .grid { stroke: var(--line); stroke-width: 1; fill: none; }
.chart .curve { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.cells path { stroke-width: 1; fill: none; }
.chart .dashed { stroke-dasharray: 5 3; }
.chart .mark { stroke: var(--text); stroke-width: 1.4; }
.key { display: inline-block; margin-right: 1.2em; white-space: nowrap; }
.key svg { vertical-align: middle; margin-right: .4em; }
@media (max-width: 600px) { figure { overflow-x: auto; }
  .chart { max-width: none; } }
@media print { body { margin: 0; max-width: none; font-size: 11px; }
  section, figure, .chart { break-inside: avoid; } }
)css";

// A colour that reads on white and on black, `share` of the way from blue over
// green to red-brown. Curves, bars and keys use it by class.
std::string SeriesColour(double share) {
  return fmt::format("hsl({:.0f} 65% 47%)", 222 - 212 * share);
}
constexpr int kColours = 12;

std::string ColourRules() {
  std::string css;
  for (int i = 0; i < kColours; ++i) {
    const std::string colour =
        SeriesColour(static_cast<double>(i) / (kColours - 1));
    css += fmt::format(
        ".c{0} {{ stroke: {1}; }} .c{0} .bar {{ fill: {1}; stroke: none; }}\n",
        i, colour);
  }
  // Alpha: blue below zero, red above, the page's own colour at zero.
  for (int i = 0; i < 15; ++i) {
    const int strength = std::abs(i - 7) * 100 / 7;
    css += fmt::format(
        ".cells .d{} {{ stroke: color-mix(in srgb, {} {}%, var(--panel)); }}\n",
        i, i < 7 ? "#2166ac" : "#c0392b", strength);
  }
  return css;
}

// The class of item i of n.
std::string ColourClass(size_t i, size_t n) {
  return fmt::format("c{}", n < 2 ? 0 : i * (kColours - 1) / (n - 1));
}

std::string Key(const std::string& style, const std::string& text) {
  return fmt::format(
      "<span class=\"key\"><svg class=\"chart\" width=\"26\" height=\"10\" "
      "viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"curve {}\" "
      "d=\"M0 5H26\"/></svg>{}</span>\n",
      style, Escape(text));
}

std::string Percent(double share) {
  return fmt::format("{:.1f} %", 100 * share);
}

std::string Bytes(int64_t bytes) {
  return FormatBytes(static_cast<double>(bytes));
}

std::string Tile(const std::string& value, const std::string& what) {
  return fmt::format("<div><b>{}</b><span>{}</span></div>\n", Escape(value),
                     Escape(what));
}

std::string Section(const std::string& title, const std::string& body) {
  return fmt::format("<section>\n<h2>{}</h2>\n{}</section>\n", Escape(title),
                     body);
}

// In the order in which they appear.
template <class Items>
std::vector<std::string> KindsOf(const Items& items) {
  std::vector<std::string> kinds;
  for (const auto& item : items) {
    if (std::ranges::count(kinds, item.kind) == 0) kinds.push_back(item.kind);
  }
  return kinds;
}
template <class Items>
std::vector<int64_t> LayersOf(const Items& items) {
  std::vector<int64_t> layers;
  layers.reserve(items.size());
  for (const auto& item : items) layers.push_back(item.layer);
  std::ranges::sort(layers);
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

std::string Tiles(const ReportData& data) {
  const Ratios ratios = RatiosOf(data.parameters_out, data.parameters_in);
  std::string text = "<div class=\"tiles\">\n";
  text += Tile(Percent(ratios.experts), "of the expert weights kept");
  text += Tile(Percent(ratios.model), "of the whole model kept");
  text += data.bytes_in > 0
              ? Tile(fmt::format("{} \u2192 {}", Bytes(data.bytes_in),
                                 Bytes(data.bytes_out)),
                     "tensor bytes before and after")
              : Tile(Bytes(data.bytes_out), "tensor bytes");
  if (!data.errors.empty()) {
    double mse = 0;
    for (const RecipeMatrix& matrix : data.errors) {
      mse += matrix.error.scaled_mse / static_cast<double>(data.errors.size());
    }
    const MatrixReport* worst = FindWorst(data.errors);
    text += Tile(fmt::format("{:.5f}", mse), "mean scaled MSE");
    text += Tile(Percent(worst->error.worst_expert),
                 fmt::format("relative error of the worst expert ({})",
                             WorstPlace(*worst)));
  }
  return text + "</div>\n";
}

std::string ErrorSection(const ReportData& data) {
  if (data.errors.empty()) {
    return "<p class=\"note\">There is no recipe.json in the folder; "
           "<code>--original</code> would let the errors be measured.</p>\n";
  }
  const auto kinds = KindsOf(data.errors);
  const auto layers = LayersOf(data.errors);
  std::map<std::pair<int64_t, std::string>, const RecipeMatrix*> at;
  for (const RecipeMatrix& matrix : data.errors) {
    at[{matrix.layer, matrix.kind}] = &matrix;
  }
  std::vector<std::string> categories;
  categories.reserve(layers.size());
  for (const int64_t layer : layers) {
    categories.push_back(std::to_string(layer));
  }
  std::vector<BarSeries> series;
  std::string text =
      "<p>Relative error: Frobenius norm of W \u2212 \u0174 over that of W, "
      "for all experts of a layer together. The tick above a bar: the worst "
      "single expert.</p>\n";
  if (!data.packed.empty() && !data.measured) {
    text +=
        "<p class=\"note\">Before quantising; with <code>--original</code> the "
        "errors are measured as they are now.</p>\n";
  }
  text += "<figure>";
  for (size_t k = 0; k < kinds.size(); ++k) {
    const std::string style = ColourClass(k, kinds.size());
    BarSeries bars{kinds[k], style, {}, {}};
    for (const int64_t layer : layers) {
      const auto found = at.find({layer, kinds[k]});
      const bool there = found != at.end();
      bars.value.push_back(there ? 100 * found->second->error.relative : -1);
      bars.mark.push_back(there ? 100 * found->second->error.worst_expert : -1);
    }
    series.push_back(std::move(bars));
    text += Key(style, kinds[k]);
  }
  text +=
      fmt::format("<div class=\"wide\">{}</div></figure>\n",
                  BarChart("Relative error of each layer's expert matrices",
                           "layer", "relative error, %", categories, series));
  text +=
      "<table>\n<thead><tr><th>layer</th><th>matrix</th><th>scaled MSE</th>"
      "<th>relative error</th><th>worst expert</th><th>its index</th>"
      "<th>passes</th></tr></thead>\n<tbody>\n";
  for (const RecipeMatrix& matrix : data.errors) {
    text += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{:.5f}</td><td>{:.2f} %</td>"
        "<td>{:.2f} %</td><td>{}</td><td>{}</td></tr>\n",
        matrix.layer, Escape(matrix.kind), matrix.error.scaled_mse,
        100 * matrix.error.relative, 100 * matrix.error.worst_expert,
        matrix.error.worst_expert_index,
        matrix.passes > 0 ? FormatCount(matrix.passes) : "");
  }
  return text +
         "</tbody></table>\n<p class=\"note\">Scaled MSE: mean of ((W \u2212 "
         "\u0174) / std W)\u00b2, of what is stored.</p>\n";
}

// A colour's key for at most kColours of the layers.
std::string LayerKey(const std::vector<int64_t>& layers) {
  std::string text;
  const size_t every = (layers.size() + kColours - 1) / kColours;
  for (size_t i = 0; i < layers.size(); i += every) {
    text +=
        Key(ColourClass(i, layers.size()), fmt::format("layer {}", layers[i]));
  }
  return text;
}

std::string TraceSection(const ReportData& data) {
  const auto layers = LayersOf(data.errors);
  Axis x{"pass over all experts", true, 1, 1};
  Axis y{"scaled MSE", true, INFINITY, 0};
  for (const RecipeMatrix& matrix : data.errors) {
    for (const TracePoint& point : matrix.trace) {
      if (point.mse_scaled <= 0) continue;
      x.high = std::max(x.high, static_cast<double>(point.pass));
      y.low = std::min(y.low, point.mse_scaled);
      y.high = std::max(y.high, point.mse_scaled);
    }
  }
  if (y.high == 0) {
    return "<p class=\"note\">No trace of the fit is at hand.</p>\n";
  }
  std::string text =
      "<p>Error at the start of each pass of the fit, before factors were "
      "rounded to be stored; both axes are logarithmic.</p>\n<figure>" +
      LayerKey(layers) + "<div class=\"panels\">\n";
  for (const std::string& kind : KindsOf(data.errors)) {
    std::vector<Curve> curves;
    for (const RecipeMatrix& matrix : data.errors) {
      if (matrix.kind != kind) continue;
      const auto i = static_cast<size_t>(
          std::ranges::find(layers, matrix.layer) - layers.begin());
      Curve curve{fmt::format("layer {} {}", matrix.layer, kind),
                  ColourClass(i, layers.size()),
                  {},
                  {}};
      for (const TracePoint& point : matrix.trace) {
        curve.x.push_back(static_cast<double>(point.pass));
        curve.y.push_back(point.mse_scaled);
      }
      curves.push_back(std::move(curve));
    }
    text += LineChart(kind + ": error against passes", x, y, curves);
  }
  return text + "</div></figure>\n";
}

std::string DetailedNote(const ReportData& data) {
  return data.detailed.size() == data.format.Layers().size()
             ? ""
             : fmt::format(" Shown: {} of {} layers, evenly spaced.",
                           data.detailed.size(), data.format.Layers().size());
}

bool IsDetailed(const ReportData& data, int64_t layer) {
  return std::ranges::count(data.detailed, layer) > 0;
}

std::string AlphaSection(const ReportData& data) {
  // Outliers would leave the rest in one colour.
  std::vector<float> sizes;
  for (const FactoredMatrix& matrix : data.matrices) {
    for (const float alpha : matrix.alpha) sizes.push_back(std::fabs(alpha));
  }
  const size_t nth = sizes.size() * 99 / 100;
  if (sizes.empty()) return "";
  std::ranges::nth_element(sizes, sizes.begin() + static_cast<ptrdiff_t>(nth));
  const double limit = sizes[nth] > 0 ? sizes[nth] : 1;

  std::string text = fmt::format(
      "<p>How much of each basis (column) is in each expert (row).{}</p>\n"
      "<figure>{}<figcaption>Colours end at the 99th percentile of |alpha|."
      "</figcaption>\n<div class=\"panels\">\n",
      DetailedNote(data), HeatKey(limit));
  for (const FactoredMatrix& matrix : data.matrices) {
    if (!IsDetailed(data, matrix.layer)) continue;
    text += HeatMap(fmt::format("layer {} {}", matrix.layer, matrix.kind),
                    fmt::format("{} bases", matrix.num_bases),
                    fmt::format("{} experts", matrix.experts), matrix.experts,
                    matrix.num_bases, matrix.alpha.data(), limit);
  }
  text += "</div></figure>\n";

  const auto kinds = KindsOf(data.matrices);
  text +=
      "<p>Bases that an expert uses, in effect: (\u03a3|alpha|)\u00b2 / "
      "\u03a3alpha\u00b2, mean over experts.</p>\n<table>\n<thead><tr>"
      "<th>layer</th>";
  for (const std::string& kind : kinds) {
    text += fmt::format("<th>{}</th>", Escape(kind));
  }
  text += "</tr></thead>\n<tbody>\n";
  for (const int64_t layer : LayersOf(data.matrices)) {
    text += fmt::format("<tr><td>{}</td>", layer);
    for (const std::string& kind : kinds) {
      std::string cell;
      for (const FactoredMatrix& matrix : data.matrices) {
        if (matrix.layer == layer && matrix.kind == kind) {
          cell = fmt::format("{:.2f} of {}", matrix.bases_used,
                             matrix.num_bases / matrix.groups);
        }
      }
      text += fmt::format("<td>{}</td>", cell);
    }
    text += "</tr>\n";
  }
  return text + "</tbody></table>\n";
}

Curve EnergyCurve(std::string name, std::string style, const Energy& energy) {
  Curve curve{std::move(name), std::move(style), {}, {}};
  const size_t every = std::max<size_t>(energy.size() / 128, 1);
  for (size_t i = 0; i < energy.size(); ++i) {
    if (i > 4 && i % every != 0 && i + 1 != energy.size()) continue;
    curve.x.push_back(static_cast<double>(i + 1));
    curve.y.push_back(100 * energy[i]);
  }
  return curve;
}

std::string SpectrumSection(const ReportData& data) {
  const auto kinds = KindsOf(data.matrices);
  bool original = false;
  std::string keys;
  for (const FactoredMatrix& matrix : data.matrices) {
    original = original || !matrix.original.empty();
  }
  for (size_t k = 0; k < kinds.size(); ++k) {
    const std::string style = ColourClass(k, kinds.size());
    if (original) keys += Key(style, kinds[k] + ", original experts");
    keys += Key(style + " dashed", kinds[k] + ", bases");
  }
  std::string text = fmt::format(
      "<p>Share of the energy (sum of squared singular values) in the largest "
      "singular values of a layer's matrices stacked on the hidden axis: of "
      "{}all its bases. The lower the curve, the less a common subspace would "
      "do.{}</p>\n<figure>{}<div class=\"panels\">\n",
      original ? "all its experts before, and of " : "", DetailedNote(data),
      keys);
  for (const int64_t layer : data.detailed) {
    std::vector<Curve> curves;
    double size = 2;
    for (const FactoredMatrix& matrix : data.matrices) {
      if (matrix.layer != layer) continue;
      const auto k = static_cast<size_t>(std::ranges::find(kinds, matrix.kind) -
                                         kinds.begin());
      const std::string style = ColourClass(k, kinds.size());
      size = std::max(size, static_cast<double>(matrix.bases.size()));
      if (!matrix.original.empty()) {
        curves.push_back(
            EnergyCurve(matrix.kind + ", original", style, matrix.original));
      }
      curves.push_back(EnergyCurve(matrix.kind + ", bases", style + " dashed",
                                   matrix.bases));
    }
    text += LineChart(fmt::format("layer {}: singular-value energy", layer),
                      {"singular values, largest first", false, 0, size},
                      {"cumulative energy, %", false, 0, 100}, curves);
  }
  text += "</div></figure>\n";
  if (!original) {
    text +=
        "<p class=\"note\">With <code>--original MODEL</code> the original's "
        "experts are shown, too.</p>\n";
  }
  return text;
}

std::string SizeSection(const ReportData& data) {
  std::string text =
      "<table>\n<thead><tr><th>part</th><th>parameters before</th>"
      "<th>after</th><th>kept</th><th>share of the model "
      "after</th></tr></thead>"
      "\n<tbody>\n";
  const auto total = static_cast<double>(data.parameters_out.total());
  const auto row = [&](const char* name, int64_t in, int64_t out) {
    if (in == 0 && out == 0) return;
    const double kept =
        in == 0 ? 1 : static_cast<double>(out) / static_cast<double>(in);
    text += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        name, FormatCount(in), FormatCount(out), Percent(kept),
        Percent(static_cast<double>(out) / total));
  };
  for (const PartRow& part : kParts) {
    row(part.name, data.parameters_in.*part.size,
        data.parameters_out.*part.size);
  }
  row("total", data.parameters_in.total(), data.parameters_out.total());
  text += "</tbody></table>\n";
  if (data.bytes_in > 0) {
    text +=
        fmt::format("<p>Tensors: {} bytes before, {} after.</p>\n",
                    FormatCount(data.bytes_in), FormatCount(data.bytes_out));
  } else {
    text +=
        fmt::format("<p>Tensors: {} bytes.</p>\n", FormatCount(data.bytes_out));
  }
  return text;
}

std::string PackedSection(const ReportData& data) {
  std::string text =
      "<p>Matrices that are stored as integers with common scales, and the "
      "relative error of that alone: the Frobenius norm of the difference over "
      "that of what was there.</p>\n<table>\n<thead><tr><th>part</th>"
      "<th>format</th><th>matrices</th><th>bytes before</th><th>after</th>"
      "<th>relative error</th><th>worst matrix</th></tr></thead>\n<tbody>\n";
  const auto row = [&](const PackedPart& part) {
    text += fmt::format(
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>"
        "<td>{:.2f} %</td><td>{:.2f} %</td></tr>\n",
        Escape(part.part), Escape(part.format), FormatCount(part.matrices),
        FormatCount(part.bytes_in), FormatCount(part.bytes_out),
        100 * part.loss.relative(), 100 * part.worst_relative);
  };
  for (const PackedPart& part : data.packed) row(part);
  PackedPart total = TotalOf(data.packed);
  total.part = "total";
  row(total);
  return text + "</tbody></table>\n";
}

// Titles first.
std::string CellTable(const char* style, const Cells& cells) {
  std::string text =
      fmt::format("<div class=\"wide\"><table class=\"{}\">\n", style);
  const char* cell = "th";
  for (const std::vector<std::string>& row : cells) {
    text += "<tr>";
    for (const std::string& value : row) {
      text += fmt::format("<{0}>{1}</{0}>", cell, Escape(value));
    }
    text += "</tr>\n";
    cell = "td";
  }
  return text + "</table></div>\n";
}

std::string TaskSection(const ReportData& data) {
  if (data.results.empty()) {
    return "<p class=\"note\">With <code>--eval FILE</code> what <code>mobe "
           "eval --json</code> printed into a file is shown.</p>\n";
  }
  return CellTable("words", EvalTable(data.results));
}

std::string ComparisonSection(const ReportData& data) {
  if (!data.comparison) {
    return "<p class=\"note\">With <code>--table FILE</code> what <code>mobe "
           "table --json</code> printed into a file is shown: KL divergence, "
           "perplexity and speed.</p>\n";
  }
  return "<p>KLD: Kullback-Leibler divergence from the first model's "
         "predictions, in nats a token; top-1: share of tokens where both find "
         "the same one likeliest; tok/s: one text, a token at a time.</p>\n" +
         CellTable("", ComparisonCells(*data.comparison, CellsFor::kPeople));
}

std::string RecipeSection(const Recipe& recipe) {
  std::string text = "<table class=\"words\">\n<tbody>\n";
  const auto row = [&](const std::string& name, const std::string& value) {
    text += fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", Escape(name),
                        Escape(value));
  };
  row("original", recipe.source);
  row("program", "mobe " + recipe.mobe);
  row("kernels", fmt::format("{}", fmt::join(recipe.kernels, ", ")));
  for (const auto& [name, value] : recipe.options.items()) {
    const std::string words = OptionText(value);
    if (name != "mobe" && !words.empty()) row(name, words);
  }
  for (const auto& [layers, options] : FitTexts(recipe.options)) {
    row("factors of layers " + layers, options);
  }
  return text + "</tbody></table>\n";
}

std::string FileTable(const char* caption,
                      const std::map<std::string, FileSum>& files) {
  std::string text = fmt::format(
      "<div class=\"wide\"><table class=\"words\">\n<thead><tr><th>{}</th>"
      "<th>bytes</th><th>SHA-256</th></tr></thead>\n<tbody>\n",
      caption);
  for (const auto& [name, sum] : files) {
    text += fmt::format(
        "<tr><td>{}</td><td>{}</td><td class=\"hash\">{}</td></tr>\n",
        Escape(name), FormatCount(sum.bytes), Escape(sum.sha256));
  }
  return text + "</tbody></table></div>\n";
}

std::string ChecksumSection(const Recipe& recipe) {
  return fmt::format(
      "<p>As recipe.json lists them, with those of {} factors; <code>mobe "
      "verify</code> compares them with the files.</p>\n{}{}",
      FormatCount(static_cast<int64_t>(recipe.tensors.size())),
      FileTable("file of this model", recipe.files),
      FileTable("file of the original", recipe.source_files));
}

}  // namespace

std::string ReportPage(const ReportData& data) {
  const std::string title = fmt::format("MoBE report: {}", data.name);
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\">\n<title>{0}</title>\n<style>{1}{2}</style>\n</head>\n"
      "<body>\n<header>\n<h1>{0}</h1>\n",
      Escape(title), kStyle, ColourRules());
  page += fmt::format("<p class=\"note\">{}{}; {}</p>\n",
                      data.recipe ? Escape(data.recipe->source) + ", " : "",
                      Escape(data.family),
                      data.format.factors.empty()
                          ? "quantised"
                          : Escape(SummarizeFormat(data.format)));
  page += "</header>\n<main>\n" + Tiles(data);
  if (!data.format.factors.empty()) {
    page += Section("Error of each layer and matrix", ErrorSection(data));
    page += Section("Error against passes", TraceSection(data));
    page += Section("Alpha: which expert uses which bases", AlphaSection(data));
    page += Section("Singular-value energy", SpectrumSection(data));
  }
  if (!data.packed.empty()) page += Section("Quantised", PackedSection(data));
  page += Section("Predictions and speed", ComparisonSection(data));
  page += Section("Tasks", TaskSection(data));
  page += Section("Size before and after", SizeSection(data));
  if (data.recipe) {
    page += Section("Recipe", RecipeSection(*data.recipe));
    page += Section("Checksums", ChecksumSection(*data.recipe));
  }
  return page + "</main>\n</body>\n</html>\n";
}

}  // namespace mobe
