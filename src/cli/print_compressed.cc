#include "cli/print_compressed.h"

#include "base/memory.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/print_plan.h"
#include "compress/worst_expert.h"

namespace mobe {

Json ReportJson(const CompressPlan& plan, const CompressReport& report,
                double seconds) {
  Json json = PlanJson(plan);
  json["mse_scaled_mean"] = report.mse_scaled_mean;
  json["seconds"] = seconds;
  json["peak_rss_bytes"] = PeakResidentBytes();
  json["passes"] = report.passes;
  json["resumed"] = report.resumed;
  json["already"] = report.already;
  json["worst_expert"] = WorstJson(FindWorst(report.matrices));
  json["matrices"] = MatricesJson(report.matrices);
  return json;
}

void PrintWorst(const CompressReport& report) {
  const MatrixReport* worst = FindWorst(report.matrices);
  if (worst != nullptr) Print("{}\n", WorstText(*worst));
}

void PrintReport(const CompressReport& report, const std::string& out,
                 double seconds) {
  if (report.already) return PrintAlready(out);
  if (report.resumed > 0) {
    Print("continued: {} matrices were finished before\n", report.resumed);
  }
  Print("mean scaled MSE {:.5f} in {}, peak memory {}\n",
        report.mse_scaled_mean, FormatDuration(seconds),
        FormatBytes(static_cast<double>(PeakResidentBytes())));
  PrintWorst(report);
}

}  // namespace mobe
