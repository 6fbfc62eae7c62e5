// Compiled into each program of tests by itself: it is about the program.
#include "base/counted_memory.h"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

mobe::CountedMemory* mobe::ThreadMemory() { return nullptr; }

#else

namespace {
thread_local mobe::CountedMemory t_memory;
}  // namespace

mobe::CountedMemory* mobe::ThreadMemory() { return &t_memory; }

// Not inlined: g++ 12 would then see free() for memory of operator new, and
// warn of a mismatch.
[[gnu::noinline]] void* operator new(size_t size) {
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  t_memory.live += ::malloc_usable_size(memory);
  t_memory.peak = std::max(t_memory.peak, t_memory.live);
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  t_memory.live -= ::malloc_usable_size(memory);
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  ::operator delete(memory);
}

#endif
