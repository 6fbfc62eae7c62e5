#!/usr/bin/env bash
# Builds mobe from nothing on other releases of Debian and runs the demo there:
# bookworm and trixie, or those named, each in a chroot below build/chroot (4 GB).
# Needs root. Packages come from the mirror that this machine's apt uses, with its
# settings, proxies and certificates.
set -euo pipefail
cd "$(dirname "$0")/.."

suites=("$@")
[[ ${#suites[@]} -gt 0 ]] || suites=(bookworm trixie)
if [[ $(id -u) -ne 0 ]]; then
  echo "chroot_test: needs root; run it by sudo" >&2
  exit 1
fi
command -v debootstrap >/dev/null ||
  apt-get install -y --no-install-recommends debootstrap
mirror=$(apt-get indextargets --format '$(REPO_URI)' \
  'Created-By: Packages' 'Origin: Debian' | head -n 1)

for suite in "${suites[@]}"; do
  root=$PWD/build/chroot/$suite
  rm -rf --one-file-system "$root"
  mkdir -p "$root"
  echo "== chroot_test: $suite"
  debootstrap --variant=minbase --include=ca-certificates,make \
    "$suite" "$root" "$mirror"
  apt-config dump Acquire >"$root/etc/apt/apt.conf.d/99host"
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  mkdir "$root/mobe"
  git ls-files -z --cached --others --exclude-standard |
    tar --create --null --files-from=- | tar --extract --directory="$root/mobe"
  # In a namespace of its own the mounts end with the command.
  unshare --mount bash -euc '
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    chroot "$1" make -C /mobe demo' - "$root"
  rm -rf --one-file-system "$root"
done
echo "chroot_test: mobe builds and runs on ${suites[*]}"
