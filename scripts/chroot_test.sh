#!/usr/bin/env bash
# Builds mobe from nothing on other systems and runs the demo there; then, where
# nothing was built, installs the wheel and that system's .deb, and runs both. On bionic
# (Ubuntu 18.04, glibc 2.27) only the wheel's program runs: it is older than the glibc
# 2.28 of the wheel's tag, so that pip would refuse it there. Systems are bookworm, trixie
# (Debian 12, 13), noble (Ubuntu 24.04) and bionic, or those named, each in chroots below
# build/chroot (5 GB). Needs root. Packages come from the mirrors that this machine's apt
# uses, with its settings, proxies and certificates: without one of Ubuntu, those two are
# left out.
set -euo pipefail
cd "$(dirname "$0")/.."

suites=("$@")
[[ ${#suites[@]} -gt 0 ]] || suites=(bookworm trixie noble bionic)
# shellcheck source=scripts/bootstrap.sh
source scripts/bootstrap.sh
needs_root chroot_test

# in_chroot ROOT COMMAND...: in a namespace of its own the mounts end with the command.
in_chroot() {
  unshare --mount bash -euc '
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    chroot "$@"' - "$@"
}

# try ROOT PROGRAM: a short way with the bundled model.
try() {
  in_chroot "$1" bash -euxc '
    rm -rf /tmp/mobe /tmp/plain
    "$1" --version
    "$1" compress /mini-qwen3-moe /tmp/mobe --budget 2 --quiet
    "$1" verify /tmp/mobe --against /mini-qwen3-moe --quiet
    "$1" generate /tmp/mobe --prompt "The castle was" --max-tokens 8
  ' - "$2"
}

rm -f build/mobe-*.whl
make wheel
tested=()
for suite in "${suites[@]}"; do
  if [[ -z $(mirror_of "$suite") ]]; then
    echo "chroot_test: $suite is left out: apt has no mirror of it here"
    continue
  fi
  echo "== chroot_test: $suite"
  root=$PWD/build/chroot/$suite
  clean=$root-clean
  rm -rf --one-file-system "$clean"
  bootstrap "$suite" "$root"

  if [[ $suite == bionic ]]; then
    cp -r models/mini-qwen3-moe build/mobe-*.whl "$root"
    in_chroot "$root" bash -euc '
      export DEBIAN_FRONTEND=noninteractive
      apt-get update
      apt-get install -y --no-install-recommends python3 unzip
      unzip -q /mobe-*.whl -d /wheel
      printf "#!/bin/sh\nexec python3 /wheel/mobe/__main__.py \"\$@\"\n" >/mobe
      chmod +x /mobe
      ldd --version | head -n 1'
    try "$root" /mobe
    rm -rf --one-file-system "$root"
    tested+=("$suite")
    continue
  fi
  cp -a "$root" "$clean"

  copy_sources "$root/mobe"
  in_chroot "$root" bash -euc '
    apt-get update
    apt-get install -y --no-install-recommends make
    make -C /mobe demo deb'

  # The wheel first, while none of the .deb's libraries are there.
  cp -r models/mini-qwen3-moe build/mobe-*.whl "$root"/mobe/build/mobe_*.deb "$clean"
  rm -rf --one-file-system "$root"
  in_chroot "$clean" bash -euc '
    export DEBIAN_FRONTEND=noninteractive
    apt-get update
    apt-get install -y --no-install-recommends python3-venv
    python3 -m venv /venv
    /venv/bin/pip install --no-index /mobe-*.whl'
  try "$clean" /venv/bin/mobe
  in_chroot "$clean" bash -euc '
    DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends /mobe_*.deb'
  try "$clean" /usr/bin/mobe
  rm -rf --one-file-system "$clean"
  tested+=("$suite")
done
if [[ ${#tested[@]} -eq 0 ]]; then
  echo "chroot_test: nothing was tested" >&2
  exit 1
fi
echo "chroot_test: mobe runs on ${tested[*]}"
