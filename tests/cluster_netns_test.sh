#!/usr/bin/env bash
# Machines of a cluster, as far as one machine can show them: network namespaces
# on a bridge, each with an address and a host name of its own, and Open MPI over
# TCP between them. They share the disk, as a cluster shares a file system. The
# bytes must be those of one process; also when a machine's cable is pulled, with
# --enable-recovery.
#
# Needs root, ip (iproute2), unshare and a mobe with MPI; skips without.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$(realpath "${MOBE:-build/release/mobe}")
model=$PWD/models/mini-qwen3-moe
hosts=4
name=mobe$$          # of namespaces
bridge=mb$$          # of the bridge and, with a number, of its ports: 15 letters
net=10.213.77
ended=1

skip() {
  echo "cluster: skipped: $*"
  exit 0
}
[[ $(id -u) -eq 0 ]] || skip "needs root"
for command in ip unshare mpirun; do
  command -v "$command" >/dev/null || skip "no $command"
done
ldd "$program" | grep -q libmpi || skip "$program was built without MPI"

scratch=$(mktemp -d)
clean() {
  for ((i = 0; i < hosts; i++)); do
    # What still runs there, which is all ours.
    for pid in $(ip netns pids "$name-$i" 2>/dev/null); do
      kill -KILL "$pid" 2>/dev/null || true
    done
    ip netns del "$name-$i" 2>/dev/null || true
  done
  ip link del "$bridge" 2>/dev/null || true
  rm -rf "$scratch"
}
trap clean EXIT

ip netns add "$name-0" 2>/dev/null || skip "may not make network namespaces"
ip link add "$bridge" type bridge 2>/dev/null || skip "may not make a bridge"
ip link set "$bridge" up
for ((i = 0; i < hosts; i++)); do
  [[ $i -eq 0 ]] || ip netns add "$name-$i"
  ip link add "$bridge-$i" type veth peer name eth0 netns "$name-$i" ||
    skip "may not make veth links"
  ip link set "$bridge-$i" master "$bridge" up
  ip -n "$name-$i" address add "$net.$((i + 1))/24" dev eth0
  ip -n "$name-$i" link set eth0 up
  ip -n "$name-$i" link set lo up
done

# The rsh of mpirun: enters the namespace of an address, with the host name that
# Open MPI asks for and a /dev/shm of its own.
cat >"$scratch/enter" <<EOF
#!/usr/bin/env bash
host=\${1##*.}; shift
exec ip netns exec "$name-\$((host - 1))" unshare --uts --ipc --mount bash -c \\
  'hostname "node\$1"; mount -t tmpfs tmpfs /dev/shm; shift; exec bash -c "\$*"' \\
  enter "\$host" "\$@"
EOF
chmod +x "$scratch/enter"
for ((i = 0; i < hosts; i++)); do
  echo "$net.$((i + 1)) slots=1"
done >"$scratch/hosts"

# run OUT OPTIONS...: mobe on all hosts, started from the first.
run() {
  local out=$1
  shift
  "$scratch/enter" "$net.1" env \
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    OMPI_MCA_plm_rsh_agent="$scratch/enter" OMPI_MCA_btl=tcp,self \
    OMPI_MCA_btl_tcp_if_include=eth0 OMPI_MCA_oob_tcp_if_include=eth0 \
    OMPI_MCA_orte_keep_fqdn_hostnames=1 TMPDIR="$scratch" \
    mpirun --hostfile "$scratch/hosts" -n "$hosts" --map-by node \
    --bind-to none "$@" \
    "$program" compress "$model" "$out" \
    --budget 30 --layers 0-3 --shard-gb 0.01 --threads 1
}

echo "cluster: one process"
"$program" compress "$model" "$scratch/one" --budget 30 --layers 0-3 \
  --shard-gb 0.01 --threads 1 --quiet >"$scratch/log"

echo "cluster: $hosts hosts"
run "$scratch/all" >"$scratch/log" 2>&1 </dev/null || {
  cat "$scratch/log"
  echo "cluster: FAILED: mpirun over $hosts namespaces"
  exit 1
}
grep -q "$hosts ranks" "$scratch/log"
diff -r "$scratch/one" "$scratch/all"
echo "cluster: same bytes from $hosts hosts over TCP"
