#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/testing.h"
#include "kernels/dot.h"
#include "kernels/kernels.h"
#include "kernels/token_lanes.h"
#include "machine/cpu.h"
#include "machine/disk_read.h"

namespace mobe {
namespace {

using testing::ElementsAre;

TEST(CpuTest, FirstProcessorOfCpuinfo) {
  const TempFolder root;
  std::filesystem::create_directory(root / "proc");
  WriteText(root / "proc/cpuinfo",
            "processor\t: 0\nvendor_id\t: GenuineIntel\n"
            "model name\t: A CPU @ 2.00GHz\nempty\t:\n"
            "flags\t\t: fpu avx2 fma f16c amx_tile\n\n"
            "processor\t: 1\nmodel name\t: another\nflags\t: amx_int8\n");
  const Cpu cpu = ReadCpu(root.path());
  EXPECT_EQ(cpu.name, "A CPU @ 2.00GHz");
  EXPECT_THAT(cpu.flags, ElementsAre("amx_tile", "avx2", "f16c", "fma", "fpu"));
  for (const Instructions& set : ListInstructions(cpu)) {
    EXPECT_EQ(set.available, std::string_view(set.name) == "AVX2") << set.name;
    EXPECT_EQ(set.available, set.missing.empty()) << set.name;
    if (std::string_view(set.name) == "AMX INT8") {
      EXPECT_THAT(set.missing, ElementsAre("amx_int8"));
    }
  }
  const Cpu none = ReadCpu(root / "nowhere");
  EXPECT_EQ(none.name, "");
  EXPECT_TRUE(none.flags.empty());
}

TEST(CpuTest, EveryKernelSetIsThereOrSaysWhyNot) {
  const std::vector<KernelChoice> list = ListKernels(Cpu{"none", {}});
  size_t available = 0;
  for (const KernelChoice& kernel : list) {
    available += kernel.available ? 1 : 0;
    EXPECT_EQ(kernel.chosen, kernel.why_not.empty()) << kernel.name;
    EXPECT_EQ(kernel.chosen, kernel.name == Kernels().name);
    if (!kernel.available) {
      EXPECT_TRUE(kernel.why_not.starts_with("this CPU lacks "))
          << kernel.why_not;
    }
  }
  EXPECT_EQ(available, SupportedKernels().size());
  EXPECT_EQ(list.back().name, "scalar");
}

void ExpectChosen(const std::vector<KernelChoice>& list, const char* chosen,
                  size_t supported, const char* last) {
  size_t available = 0;
  for (const KernelChoice& kernel : list) {
    available += kernel.available ? 1 : 0;
    EXPECT_EQ(kernel.chosen, kernel.name == chosen);
    EXPECT_EQ(kernel.chosen, kernel.why_not.empty()) << kernel.name;
  }
  EXPECT_EQ(available, supported);
  EXPECT_EQ(list.back().name, last);
}

TEST(CpuTest, KernelsOfFewBitsAndOfBFloat16) {
  const Cpu none{"none", {}};
  ExpectChosen(ListIntegerKernels(none), Dots().name, SupportedDots().size(),
               "scalar");
  ExpectChosen(ListBFloat16Kernels(none), Lanes().name, SupportedLanes().size(),
               "float32");
}

TEST(DiskReadTest, ReadsEveryByteOnce) {
  const std::filesystem::path folder = SourcePath("build");
  std::filesystem::create_directories(folder);
  const TempFolder in_memory;
  for (const auto& parent : {in_memory.path(), folder}) {
    const std::vector<std::filesystem::path> files = {parent / "disk_read_1",
                                                      parent / "disk_read_2"};
    WriteText(files[0], std::string((5 << 20) + 17, 'a'));
    WriteText(files[1], "b");
    const DiskRead read = MeasureReading(files, 60);
    EXPECT_EQ(read.bytes, (5 << 20) + 18);
    EXPECT_GT(read.BytesPerSecond(), 0);
    EXPECT_FALSE(read.note.empty());
    for (const auto& file : files) std::filesystem::remove(file);
  }
}

TEST(DiskReadTest, NamesTheFileThatIsNotThere) {
  const TempFolder folder;
  ExpectError(ErrorKind::kMissing, "no_such_file: cannot be read: No such file",
              [&] { MeasureReading({folder / "no_such_file"}, 1); });
  EXPECT_EQ(MeasureReading({}, 1).BytesPerSecond(), 0);
}

}  // namespace
}  // namespace mobe
