// The one way to run a loop on several threads.
#pragma once

#include <cstdint>
#include <functional>

namespace mobe {

// Threads that ParallelFor uses; 0 means DefaultThreads of base/limits.h. They
// are fewer when the system starts no more. Set once, at start.
void SetThreads(int threads);
int Threads();

// Calls body(i) for i in [0, count), each once, in any order, and returns when
// all are done. Inside another ParallelFor it runs serially. The first
// exception is rethrown on the calling thread after the loop has ended.
// Results must not depend on the order: that is what makes outputs equal
// whatever the number of threads.
void ParallelFor(int64_t count, const std::function<void(int64_t)>& body);

// Splits [0, count) into pieces of `grain` (the last may be shorter) and calls
// body(begin, end) for each. The pieces depend on count and grain alone.
void ParallelRanges(int64_t count, int64_t grain,
                    const std::function<void(int64_t, int64_t)>& body);

// Index of the running thread in [0, Threads()): to choose a scratch buffer.
int ThreadIndex();

}  // namespace mobe
