#include "kernels/amx.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

namespace mobe {
namespace {

// Bits of CPUID leaf 7, EDX: compilers differ in whether they have names.
constexpr unsigned kAmxBFloat16 = 1u << 22;
constexpr unsigned kAmxTile = 1u << 24;
constexpr unsigned kAmxInt8 = 1u << 25;

bool HasAmxWith(unsigned bits) {
  // The kernel gives a process the tiles' memory only when it asks.
  constexpr int kRequest = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;     // XFEATURE_XTILEDATA
  std::array<unsigned, 4> r{};      // EAX, EBX, ECX, EDX
  return __get_cpuid_count(7, 0, r.data(), &r[1], &r[2], &r[3]) != 0 &&
         (r[3] & bits) == bits &&
         ::syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

}  // namespace

bool HasAmxInt8() { return HasAmxWith(kAmxTile | kAmxInt8); }
bool HasAmxBFloat16() { return HasAmxWith(kAmxTile | kAmxBFloat16); }

}  // namespace mobe

#endif  // __x86_64__
