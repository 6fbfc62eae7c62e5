#include "compress/packed_parts.h"

#include <fmt/core.h>

#include <algorithm>

#include "base/progress.h"
#include "tensor/planes.h"

namespace mobe {
PackedPart PackedPartOf(const TensorSpec& spec, const FormatRow& format,
                        int64_t bytes_in, const Loss& loss) {
  return {
      QuantPartOf(spec)->name,        format.name, 1,         bytes_in,
      PlaneBytes(format, spec.shape), loss,        spec.name, loss.relative()};
}

void AddPackedPart(const PackedPart& added, std::vector<PackedPart>* parts) {
  const auto found = std::ranges::find_if(*parts, [&](const PackedPart& row) {
    return row.part == added.part && row.format == added.format;
  });
  if (found == parts->end()) {
    parts->push_back(added);
    return;
  }
  found->matrices += added.matrices;
  found->bytes_in += added.bytes_in;
  found->bytes_out += added.bytes_out;
  found->loss.Add(added.loss);
  if (added.worst_relative > found->worst_relative) {
    found->worst = added.worst;
    found->worst_relative = added.worst_relative;
  }
}

PackedPart TotalOf(const std::vector<PackedPart>& parts) {
  std::vector<PackedPart> total = {{}};
  for (PackedPart part : parts) {
    part.part.clear();
    part.format.clear();
    AddPackedPart(part, &total);
  }
  return total.front();
}

Json PackedPartsJson(const std::vector<PackedPart>& parts) {
  Json json = Json::array();
  for (const PackedPart& part : parts) {
    json.push_back(
        {{"part", part.part},
         {"format", part.format},
         {"matrices", part.matrices},
         {"bytes_in", part.bytes_in},
         {"bytes_out", part.bytes_out},
         {"error_square", part.loss.error},
         {"square", part.loss.square},
         {"relative", part.loss.relative()},
         {"worst",
          {{"tensor", part.worst}, {"relative", part.worst_relative}}}});
  }
  return json;
}

std::vector<PackedPart> PackedPartsOf(const Json& json) {
  std::vector<PackedPart> parts;
  for (const Json& row : json) {
    const Json& worst = row.at("worst");
    parts.push_back({row.at("part"),
                     row.at("format"),
                     row.at("matrices"),
                     row.at("bytes_in"),
                     row.at("bytes_out"),
                     {row.at("error_square"), row.at("square")},
                     worst.at("tensor"),
                     worst.at("relative")});
  }
  return parts;
}

std::string PackedPartText(const PackedPart& part) {
  return fmt::format(
      "{} {}: {}, {} in place of {}, relative error {:.4f} (worst "
      "{:.4f}, {})",
      part.part, part.format,
      part.matrices == 1 ? "1 matrix"
                         : fmt::format("{} matrices", part.matrices),
      FormatBytes(static_cast<double>(part.bytes_out)),
      FormatBytes(static_cast<double>(part.bytes_in)), part.loss.relative(),
      part.worst_relative, part.worst);
}

}  // namespace mobe
