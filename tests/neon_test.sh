#!/usr/bin/env bash
# The integer kernels of ARM processors, compiled for one and run by qemu: the tests
# of kernels/dot.h and kernels/packed_mix.h, which hold every set against the scalar
# one. Skips where the compiler or qemu is missing (scripts/setup.sh develop installs
# them).
set -euo pipefail
cd "$(dirname "$0")/.."

compiler=aarch64-linux-gnu-g++
for program in "$compiler" qemu-aarch64; do
  command -v "$program" >/dev/null || { echo "neon: skipped, no $program"; exit 0; }
done
gtest=/usr/src/googletest/googletest
gmock=/usr/src/googletest/googlemock
out=build/neon
mkdir -p "$out"
# Headers of fmt and GoogleTest are the same for every processor.
# -psabi: a note on an old ABI.
"$compiler" -std=c++20 -O1 -Wall -Wextra -Werror -Wno-psabi \
  -DFMT_HEADER_ONLY -ffp-contract=off \
  -Isrc -isystem "$gtest/include" -isystem "$gmock/include" \
  -isystem "$gtest" -isystem "$gmock" \
  -idirafter /usr/include \
  -o "$out/neon_test" \
  tests/neon/stand_ins.cc \
  src/kernels/dot*.cc src/kernels/packed_mix*.cc \
  src/kernels/kernels.cc src/kernels/kernels_scalar.cc \
  src/tensor/{few_bits,format,int8,packed,packed_bases,planes}.cc src/base/dtype.cc \
  "$gtest/src/gtest-all.cc" "$gmock/src/gmock-all.cc" "$gtest/src/gtest_main.cc"

# With i8mm, and with dot products alone.
for pair in max:neoni8mm cortex-a76:neondot; do
  echo "neon: qemu's ${pair%:*}, ${pair#*:}"
  MOBE_INT_KERNELS=${pair#*:} qemu-aarch64 -L /usr/aarch64-linux-gnu \
    -cpu "${pair%:*}" "$out/neon_test" --gtest_brief=1
done
