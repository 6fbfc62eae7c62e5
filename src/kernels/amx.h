// What the kernels for AMX (Sapphire Rapids and newer) share.
#pragma once

#if defined(__x86_64__)

#include <atomic>
#include <cstdint>

namespace mobe {

// Memory of a tile: up to 16 rows of 64 bytes.
inline constexpr int64_t kTileRows = 16;
inline constexpr int64_t kTileRowBytes = 64;

// Of LDTILECFG (Intel's manual, volume 1, table 18-11).
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void Set(int tile, int64_t tile_rows, int64_t bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};

// What _tile_loadconfig does, but for all 64 bytes: that of g++ 12 tells the
// compiler that it reads eight, and the others were never written.
inline void LoadTiles(const TileConfig& config) {
  asm volatile("ldtilecfg %0" : : "m"(config));
}

// To be called between writing memory and loading tiles from it, and between
// loading and writing again: g++ 12's _tile_loadd does not tell the compiler
// that it reads.
inline void KeepOrder() { std::atomic_signal_fence(std::memory_order_seq_cst); }

// Whether the CPU has AMX with products of int8 or bfloat16, and the kernel
// gives this process the tiles, for which it has to ask.
bool HasAmxInt8();
bool HasAmxBFloat16();

}  // namespace mobe

#endif  // __x86_64__
