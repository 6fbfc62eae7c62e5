// What compress and merge say in the end.
#pragma once

#include <string>

#include "base/json.h"
#include "compress/compress.h"

namespace mobe {

Json ReportJson(const CompressPlan& plan, const CompressReport& report,
                double seconds);
void PrintReport(const CompressReport& report, const std::string& out,
                 double seconds);
void PrintWorst(const CompressReport& report);

}  // namespace mobe
