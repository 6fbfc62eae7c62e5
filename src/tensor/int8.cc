// 8 bits, a scale for 64 inputs: 8.25 bits a weight. A quad is stored as it is.
#include <cstring>

#include "tensor/format.h"
#include "tensor/packed.h"

namespace mobe {
namespace {

void CopyQuad(const uint8_t* from, uint8_t* to) {
  std::memcpy(to, from, kQuadBytes);
}

}  // namespace

const FormatRow kInt8Format = {.format = NumberFormat::kInt8,
                               .name = "int8",
                               .bits = 8,
                               .codes = DType::kU8,
                               .group = 64,
                               .quads = 1,
                               .pack = CopyQuad,
                               .unpack = CopyQuad,
                               .has_bases = true};

}  // namespace mobe
