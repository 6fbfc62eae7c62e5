#!/usr/bin/env bash
# Installs what was built into a scratch folder, as a package does, and puts together
# there what a wheel holds; the program runs from both.
set -euo pipefail
cd "$(dirname "$0")/.."

mobe=$(realpath "${MOBE:-build/release/mobe}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fail() {
  echo "install: $*" >&2
  exit 1
}

DESTDIR=$scratch/root cmake --install build/release --prefix /usr --strip >/dev/null
usr=$scratch/root/usr
[[ $("$usr/bin/mobe" --version) == $("$mobe" --version) ]] ||
  fail "the installed program is another"
[[ $(stat -c %s "$usr/bin/mobe") -le $(stat -c %s "$mobe") ]] ||
  fail "the installed program has symbols"
readelf -d "$usr/bin/mobe" | grep -E 'R(UN)?PATH' &&
  fail "the installed program looks for libraries where it was built"
for file in man/man1/mobe.1 bash-completion/completions/mobe \
    fish/vendor_completions.d/mobe.fish zsh/vendor-completions/_mobe \
    doc/mobe/README.md doc/mobe/docs/commands.md doc/mobe/copyright; do
  [[ -s $usr/share/$file ]] || fail "share/$file is not there"
done
cmp <("$mobe" manual) "$usr/share/man/man1/mobe.1"

cp -r python/mobe "$scratch"
mkdir "$scratch/mobe/program"
cp "$usr/bin/mobe" "$scratch/mobe/program"
cmake -Dprogram="$usr/bin/mobe" -DCMAKE_INSTALL_PREFIX="$scratch" \
  -P cmake/bundle.cmake
program=$scratch/mobe/program
outside=$("$program/ld.so" --list --library-path "$program" "$program/mobe" |
  grep '=>' | grep -vF "=> $program/" | grep -vF "/ld.so " || true)
[[ -z $outside ]] || fail "the wheel lacks $outside"
wheel() { PYTHONPATH=$scratch python3 -m mobe "$@"; }
# The last line is of devices, of which a wheel has none.
[[ $(wheel --version | head -n 3) == $("$mobe" --version | head -n 3) ]] ||
  fail "the wheel's program is another"
code=0
message=$(wheel inspect "$scratch/no such folder" 2>&1) || code=$?
[[ $code -eq 1 && $message == mobe:*"no such folder"* ]] ||
  fail "the wheel's program gets its arguments wrong: exit code $code, $message"
for license in libc6 libdnnl libicu libfmt; do
  compgen -G "$program/licenses/$license*" >/dev/null ||
    fail "the wheel lacks the license of $license"
done
echo "install: ok"
