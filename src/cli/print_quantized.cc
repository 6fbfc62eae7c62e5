#include "cli/print_quantized.h"

#include "base/progress.h"
#include "compress/recipe.h"

namespace mobe {

void PrintQuantized(const std::string& out,
                    std::optional<QuantizeReport> report, const Json& choice,
                    double seconds, const CommonOptions& common) {
  const bool already = !report;
  if (already) {
    const Recipe recipe = *ReadRecipe(out);
    report = {recipe.bytes_in, recipe.bytes_out, recipe.packed};
  }
  const PackedPart total = TotalOf(report->parts);
  if (common.json) {
    PrintJson({{"bytes_in", report->bytes_in},
               {"bytes_out", report->bytes_out},
               {"parts", PackedPartsJson(report->parts)},
               {"matrices", total.matrices},
               {"relative", total.loss.relative()},
               {"worst",
                {{"tensor", total.worst}, {"relative", total.worst_relative}}},
               {"already", already},
               {"seconds", seconds}});
    return;
  }
  if (already) return PrintAlready(out);
  Print("{}: {} in place of {} ({:.1f}%), written in {}\n", OneLine(out),
        FormatBytes(static_cast<double>(report->bytes_out)),
        FormatBytes(static_cast<double>(report->bytes_in)),
        100.0 * static_cast<double>(report->bytes_out) /
            static_cast<double>(report->bytes_in),
        FormatDuration(seconds));
  for (const PackedPart& part : report->parts) {
    Print("{}\n", OneLine(PackedPartText(part)));
  }
  Print("all: {} matrices, relative error {:.4f}\n", total.matrices,
        total.loss.relative());
  const Json factored = choice.value("factored", Json::array());
  if (!factored.empty()) {
    Print("layers that take factors: {}\n",
          choice.at("factored_layers").size());
  }
}

}  // namespace mobe
