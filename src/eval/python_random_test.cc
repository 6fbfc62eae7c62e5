#include "eval/python_random.h"

#include <gtest/gtest.h>

namespace mobe {
namespace {

using Numbers = std::vector<size_t>;

// random.Random(1234): sample(range(7473), 5) twice, sample(range(10), 3),
// sample(range(100), 8), with CPython 3.11.
TEST(PythonRandomTest, DrawsWhatPythonDraws) {
  PythonRandom random(1234);
  EXPECT_EQ(random.Sample(7473, 5), (Numbers{6374, 3610, 957, 61, 742}));
  EXPECT_EQ(random.Sample(7473, 5), (Numbers{7462, 6610, 4769, 286, 5501}));
  EXPECT_EQ(random.Sample(10, 3), (Numbers{1, 9, 5}));
  EXPECT_EQ(random.Sample(100, 8), (Numbers{30, 2, 3, 44, 82, 79, 61, 78}));
}

}  // namespace
}  // namespace mobe
