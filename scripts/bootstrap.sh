# shellcheck shell=bash
# Other systems, made from nothing for tests of mobe on them; to be sourced. Packages come
# from the mirrors that this machine's apt uses, with its settings, proxies and
# certificates.

declare -A distribution=([noble]=Ubuntu [bionic]=Ubuntu)
declare -A components=([Debian]=main [Ubuntu]=main,universe)

# needs_root NAME: ends the script of that name where it can't make any; installs what
# makes them.
needs_root() {
  if [[ $(id -u) -ne 0 ]]; then
    echo "$1: needs root; run it by sudo" >&2
    exit 1
  fi
  command -v debootstrap >/dev/null ||
    apt-get install -y --no-install-recommends debootstrap
}

# mirror_of SUITE: where its packages are; nothing if apt knows of none.
mirror_of() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
    "Origin: ${distribution[$1]-Debian}" | head -n 1
}

# bootstrap SUITE ROOT: a minimal system in ROOT, which is removed before.
bootstrap() {
  local suite=$1 root=$2 of=${distribution[$1]-Debian}
  # debootstrap has one script for all of Ubuntu, and may not know the newest names.
  local script=$suite
  [[ $of == Ubuntu ]] && script=gutsy
  rm -rf --one-file-system "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase --include=ca-certificates \
    --components="${components[$of]}" "$suite" "$root" "$(mirror_of "$suite")" "$script"
  apt-config dump Acquire >"$root/etc/apt/apt.conf.d/99host"
  cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
  cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
}

# copy_sources FOLDER: what git knows or does not ignore, in a new folder.
copy_sources() {
  mkdir "$1"
  git ls-files -z --cached --others --exclude-standard |
    tar --create --null --files-from=- | tar --extract --directory="$1"
}
