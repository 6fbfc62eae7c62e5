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

const FormatRow kInt8Format = {
    NumberFormat::kInt8, "int8", 8, DType::kU8, 64, 1, CopyQuad, CopyQuad,
    /*has_bases=*/true};

}  // namespace mobe
