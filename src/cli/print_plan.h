// What compress and merge say of a plan, in words and as JSON.
#pragma once

#include "base/json.h"
#include "compress/compress.h"
#include "compress/estimate.h"

namespace mobe {

Json PlanJson(const CompressPlan& plan);
void PrintPlan(const CompressPlan& plan);

// What is copied beside the weights, and what is not: for a dry run.
Json SideFilesJson(const SideFiles& files);
void PrintSideFiles(const SideFiles& files);

Json EstimateJson(const JobEstimate& estimate);
void PrintEstimate(const CompressPlan& plan, const JobEstimate& estimate);

}  // namespace mobe
