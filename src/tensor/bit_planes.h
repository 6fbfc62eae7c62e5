// How codes of fewer than 8 bits lie in memory: cut into a plane of their low
// bits and one of the others, 4, 2 or 1 bit each, so that a load, a shift and a
// mask give a quad of 16 rows whatever the number of bits.
//
//   bits        2   3      4   5      6
//   planes      2   2, 1   4   4, 1   4, 2
//   quads       4   8      2   8      4     of a unit
//
// A unit is the low plane of its quads and then the high one. A plane of b bits
// is lines of 64 bytes, as a quad has of a byte each; a line holds 8 / b quads,
// the first in the lowest bits of each byte.
#pragma once

namespace mobe {

struct BitPlanes {
  int low;   // bits of the first plane
  int high;  // and of the second; 0: there is none
  // Quads of a unit: the narrower plane's line is full.
  constexpr int quads() const { return 8 / (high > 0 ? high : low); }
};

// Of 2 to 6 bits.
constexpr BitPlanes BitPlanesOf(int bits) {
  const int low = bits < 4 ? 2 : 4;
  return {low, bits - low};
}

// Where a quad of a unit is, in one of its planes.
struct PlaneBits {
  int line;  // of the unit
  int shift;
};
constexpr PlaneBits LowBits(BitPlanes planes, int quad) {
  return {quad * planes.low / 8, quad * planes.low % 8};
}
constexpr PlaneBits HighBits(BitPlanes planes, int quad) {
  return {planes.quads() * planes.low / 8 + quad * planes.high / 8,
          quad * planes.high % 8};
}

}  // namespace mobe
