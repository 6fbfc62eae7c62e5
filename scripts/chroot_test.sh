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
declare -A distribution=([noble]=Ubuntu [bionic]=Ubuntu)
declare -A components=([Debian]=main [Ubuntu]=main,universe)

if [[ $(id -u) -ne 0 ]]; then
  echo "chroot_test: needs root; run it by sudo" >&2
  exit 1
fi
command -v debootstrap >/dev/null ||
  apt-get install -y --no-install-recommends debootstrap

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
  of=${distribution[$suite]-Debian}
  mirror=$(apt-get indextargets --format '$(REPO_URI)' \
    'Created-By: Packages' "Origin: $of" | head -n 1)
  if [[ -z $mirror ]]; then
    echo "chroot_test: $suite is left out: apt has no mirror of $of here"
    continue
  fi
  echo "== chroot_test: $suite"
  root=$PWD/build/chroot/$suite
  clean=$root-clean
  rm -rf --one-file-system "$root" "$clean"
  mkdir -p "$root"
  # debootstrap has one script for all of Ubuntu, and may not know the newest names.
  script=$suite
  [[ $of == Ubuntu ]] && script=gutsy
  debootstrap --variant=minbase --include=ca-certificates,make \
    --components="${components[$of]}" "$suite" "$root" "$mirror" "$script"
  apt-config dump Acquire >"$root/etc/apt/apt.conf.d/99host"
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

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

  mkdir "$root/mobe"
  git ls-files -z --cached --others --exclude-standard |
    tar --create --null --files-from=- | tar --extract --directory="$root/mobe"
  in_chroot "$root" make -C /mobe demo deb

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
