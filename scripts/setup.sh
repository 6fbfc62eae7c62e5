#!/usr/bin/env bash
# Installs the packages that mobe is built with on Debian 12 and 13 and Ubuntu 24.04;
# with `package` also those that make the .deb and the wheel, with `develop` those of
# tests, lint, fuzzing and benchmarks. Does nothing, and asks nothing, when all are
# there.
#
# For GPUs (docs/gpu.md) mobe is built with PyTorch 2.10 or later, which no package has:
# `pip install torch` in a virtual environment, then cmake with
# -DTorch_DIR=ENVIRONMENT/lib/python3.N/site-packages/torch/share/cmake/Torch.
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache pkg-config
  libcli11-dev nlohmann-json3-dev libfmt-dev libicu-dev
  libopenblas-dev liblapacke-dev libdnnl-dev libhwy-dev libssl-dev
  # mobe serve.
  libcpp-httplib-dev rapidjson-dev
  # mobe chat.
  libedit-dev
  # libdnnl-dev only recommends it; its CMake file does not do without.
  ocl-icd-opencl-dev
  # Optional: compress on several machines by mpirun.
  libopenmpi-dev openmpi-bin
  # scripts/demo.sh.
  jq
)
case "${1-build}" in
  build) ;;
  package) packages+=(dpkg-dev file python3 python3-venv) ;;
  develop)
    packages+=(
      # tests/python/test_manual.py.
      zsh fish mandoc
      # Network namespaces, the machines of tests/cluster_netns_test.sh.
      iproute2
      libgtest-dev libgmock-dev libbenchmark-dev
      # tests/neon_test.sh.
      g++-aarch64-linux-gnu qemu-user
      # make fuzz: libFuzzer is clang's. omp.h for clang-tidy, too.
      clang libclang-rt-dev libomp-dev
      python3 python3-venv
      # tests/python/test_page.py.
      chromium chromium-driver
    )
    # The version counts: what others format and find differs. Debian 13 has none of
    # it; scripts/format.sh then takes a wheel, and scripts/lint.sh does without.
    if apt-cache show clang-tidy-14 >/dev/null 2>&1; then
      packages+=(clang-format-14 clang-tidy-14)
    fi
    ;;
  *) echo "usage: scripts/setup.sh [build|package|develop]" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
  echo "setup: this is no Debian system; install the equivalents of: ${packages[*]}" >&2
  exit 1
fi

# dpkg-query fails on a name that it has never heard of, and lists the rest.
installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' \
  "${packages[@]}" 2>/dev/null || true)
missing=()
for package in "${packages[@]}"; do
  grep -qxF "installed $package" <<<"$installed" || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  if ! command -v sudo >/dev/null; then
    echo "setup: no root and no sudo; as root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
"${as_root[@]}" apt-get update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y --no-install-recommends "${missing[@]}"
