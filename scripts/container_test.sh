#!/usr/bin/env bash
# Builds the Containerfile and runs what it says. Its base image is made from the
# mirrors that this machine's apt uses, not pulled, so that no container registry is
# needed. Needs root and 6 GB below build/container, where nothing stays.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/bootstrap.sh
source scripts/bootstrap.sh
needs_root container_test
command -v buildah >/dev/null ||
  apt-get install -y --no-install-recommends buildah

folder=$PWD/build/container
# No overlay file system and no namespaces of its own: those may be missing within
# another container.
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
b() { buildah --root "$folder/images" --runroot "$folder/run" "$@"; }
trap 'rm -rf --one-file-system "$folder"' EXIT

bootstrap bookworm "$folder/base"
image=$(b from scratch)
b add -q "$image" "$folder/base" /
b commit -q "$image" docker.io/library/debian:12-slim
rm -rf --one-file-system "$folder/base"
copy_sources "$folder/source"
b bud --pull-never --network host -t mobe "$folder/source"

container=$(b from --pull-never mobe)
run() { b run -v "$PWD/models:/work/models" "$container" mobe "$@"; }
run inspect models/mini-qwen3-moe
run compress models/mini-qwen3-moe /tmp/mobe --budget 2 --quiet
run generate /tmp/mobe --prompt "The castle was" --max-tokens 8
[[ $(b inspect --format '{{.OCIv1.Config.Entrypoint}}' mobe) == "[mobe]" ]]
echo "container_test: the container runs mobe"
