#include "kernels/blas.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "base/limits.h"
#include "base/parallel.h"

// OpenBLAS's pool of buffers, which no header of it declares. A buffer that was
// given back stays mapped, and is what the next call gets.
// NOLINTBEGIN(readability-identifier-naming): theirs
extern "C" {
void* blas_memory_alloc(int);
void blas_memory_free(void*);
}

// LAPACKE prints its errors on stdout; here `info` tells them.
extern "C" void LAPACKE_xerbla(const char* /*name*/, lapack_int /*info*/) {}
// NOLINTEND(readability-identifier-naming)

namespace mobe {
namespace {

// BUFFER_SIZE of OpenBLAS on x86-64 and the pages around it; less elsewhere.
constexpr int64_t kBufferBytes = (int64_t{128} << 20) + (64 << 10);

// OpenBLAS chooses its loops by a table of processors, and those that are newer
// than it get the loops of a Pentium 4, a third as fast: 0.3.21, of Debian 12,
// knows neither Emerald Rapids nor Zen 5. What a processor has tells better
// what it can run, and the same to every version. A name that a build of
// OpenBLAS lacks, it does not follow.
const char* LoopsOfBlas() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return "SkylakeX";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return "Haswell";
  }
#endif
  return nullptr;  // as OpenBLAS has it
}

// OpenBLAS starts before main: its threads, too, and with them a buffer for
// each, or it ends the process when it can't. This runs first, because OpenBLAS
// is linked statically (a shared library's start comes before all of the
// program's).
__attribute__((constructor(101))) void SetUpBlas() {
  ::setenv("OPENBLAS_NUM_THREADS", "1", 1);
  const char* loops = LoopsOfBlas();
  if (loops != nullptr) ::setenv("OPENBLAS_CORETYPE", loops, 0);
}

bool HasRoom() {
  void* map = ::mmap(nullptr, kBufferBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return map != MAP_FAILED && ::munmap(map, kBufferBytes) == 0;
}

}  // namespace

const char* BlasKernels() { return openblas_get_corename(); }

void PrepareBlas() {
  static std::mutex mutex;
  static int prepared = 0;  // buffers that are mapped
  const std::lock_guard<std::mutex> lock(mutex);
  const int threads = Threads();
  if (threads <= prepared) return;
  std::vector<void*> buffers;
  buffers.reserve(static_cast<size_t>(threads));
  bool room = true;
  while (room && static_cast<int>(buffers.size()) < threads) {
    if (static_cast<int>(buffers.size()) >= prepared) {
      MapWithoutCounting(kBufferBytes);
      room = HasRoom();
    }
    if (room) buffers.push_back(blas_memory_alloc(0));
  }
  for (void* buffer : buffers) blas_memory_free(buffer);
  if (!room) {
    Fail(ErrorKind::kOutOfMemory,
         "no room for the buffers of {} threads, 135 MB of address space each "
         "(limit: {}); use fewer --threads or raise the limit",
         threads, ReadLimits().address_space.whose);
  }
  prepared = threads;
}

void CheckLapackMemory(int info) {
  if (info != LAPACK_WORK_MEMORY_ERROR &&
      info != LAPACK_TRANSPOSE_MEMORY_ERROR) {
    return;
  }
  Fail(ErrorKind::kOutOfMemory, "no memory for the work arrays of LAPACK");
}

}  // namespace mobe
