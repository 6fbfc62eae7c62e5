#include "cli/process.h"

#include <gtest/gtest.h>

#include <new>
#include <stdexcept>

namespace mobe {
namespace {

struct ThrowsAtTheEnd {
  void (*throws)();
  ~ThrowsAtTheEnd() { throws(); }
};

TEST(ProcessDeathTest, NoMemoryInADestructorIsOneLine) {
  EXPECT_EXIT(
      {
        NameFaults();
        const ThrowsAtTheEnd end{[] { throw std::bad_alloc(); }};
      },
      testing::ExitedWithCode(1), "^mobe: out of memory\n$");
}

TEST(ProcessDeathTest, OtherFaultsStayWhatTheyAre) {
  EXPECT_DEATH(
      {
        NameFaults();
        const ThrowsAtTheEnd end{[] { throw std::runtime_error("a mistake"); }};
      },
      "a mistake");
}

}  // namespace
}  // namespace mobe
