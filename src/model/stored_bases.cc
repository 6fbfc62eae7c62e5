#include "model/stored_bases.h"

namespace mobe {
namespace {

Plane BasesPlane(const void* data, int64_t bytes) {
  return {static_cast<const std::byte*>(data), static_cast<size_t>(bytes)};
}

std::vector<Plane> BasesPlanes(const BasesView& b) {
  const int64_t size = b.num_bases * b.rank * b.cols;
  return {BasesPlane(b.data, size * DTypeSize(b.dtype))};
}

std::vector<Plane> BasesPlanes(const BasesProducts& products) {
  return {BasesPlanes(products.left).front(),
          BasesPlanes(products.right).front()};
}

std::vector<Plane> BasesPlanes(const PackedBases& b) {
  return {BasesPlane(b.codes, b.rank * b.row_bytes()),
          BasesPlane(b.scales, b.rank * b.row_scale_bytes())};
}

}  // namespace

std::vector<Plane> StoredBases::Planes() const {
  return std::visit([](const auto& stored) { return BasesPlanes(stored); },
                    form);
}

int64_t StoredBases::bytes() const {
  int64_t bytes = 0;
  for (const Plane& plane : Planes()) {
    bytes += static_cast<int64_t>(plane.size());
  }
  return bytes;
}

}  // namespace mobe
