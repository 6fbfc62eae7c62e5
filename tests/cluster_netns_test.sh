#!/usr/bin/env bash
# Machines of a cluster, as far as one machine can show them: network namespaces
# on a bridge, each with an address and a host name of its own, and Open MPI over
# TCP between them. They share the disk, as a cluster shares a file system. The
# bytes must be those of one process; also after a rank or a machine has
# died.
#
# Needs root, ip (iproute2), unshare and a mobe with MPI; skips without.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$(realpath "${MOBE:-build/release/mobe}")
model=$PWD/models/mini-qwen3-moe
hosts=4
name=mobe$$
bridge=mb$$  # a name of a port, $bridge-0, has at most 15 letters
net=10.213.77

skip() {
  echo "cluster: skipped: $*"
  exit 0
}
[[ $(id -u) -eq 0 ]] || skip "needs root"
for command in ip unshare mpirun; do
  command -v "$command" >/dev/null || skip "no $command"
done
[[ $(ldd "$program") == *libmpi* ]] || skip "$program was built without MPI"

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

options=(--budget 30 --layers 0-3 --shard-gb 0.01 --threads 1)

# run N OUT [MPIRUN'S OPTIONS]: mobe on the first N hosts, started from the first.
run() {
  local count=$1 out=$2
  shift 2
  head -n "$count" "$scratch/hosts" >"$scratch/hosts.$count"
  "$scratch/enter" "$net.1" env \
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
    OMPI_MCA_plm_rsh_agent="$scratch/enter" OMPI_MCA_btl=tcp,self \
    OMPI_MCA_btl_tcp_if_include=eth0 OMPI_MCA_oob_tcp_if_include=eth0 \
    OMPI_MCA_orte_keep_fqdn_hostnames=1 TMPDIR="$scratch" \
    MOBE_RANK_TIMEOUT=5 \
    mpirun --hostfile "$scratch/hosts.$count" -n "$count" -x MOBE_RANK_TIMEOUT \
    --bind-to none "$@" "$program" compress "$model" "$out" "${options[@]}" \
    </dev/null
}

fail() {
  cat "$scratch/log"
  echo "cluster: FAILED: $*"
  exit 1
}

# The pids of a program of ours on host i.
pids_on() {
  local pid
  for pid in $(ip netns pids "$name-$1"); do
    [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$2" ]] && echo "$pid"
  done
  true
}

wait_for_a_matrix() {
  for ((t = 0; t < 600; t++)); do
    compgen -G "$1/.mobe/layer-*[a-z].json" >/dev/null && return
    sleep 0.05
  done
  fail "no matrix was finished in $1"
}

bytes_sent() { cat "/sys/class/net/$bridge-$1/statistics/rx_bytes"; }

"$program" compress "$model" "$scratch/one" "${options[@]}" --quiet >"$scratch/log"

run "$hosts" "$scratch/all" >"$scratch/log" 2>&1 || fail "mpirun on $hosts hosts"
grep -q "^$hosts ranks" "$scratch/log" || fail "not $hosts ranks"
diff -r "$scratch/one" "$scratch/all" || fail "other bytes"
for ((i = 0; i < hosts; i++)); do
  [[ $(bytes_sent "$i") -gt 5000 ]] || fail "host $i has sent nothing"
done
echo "cluster: $hosts hosts over TCP: same bytes"

# A rank dies: the others go on.
run "$hosts" "$scratch/rank" --enable-recovery >"$scratch/log" 2>&1 &
job=$!
wait_for_a_matrix "$scratch/rank"
kill -KILL "$(pids_on 2 mobe)"
wait "$job" || fail "the others did not go on"
diff -r "$scratch/one" "$scratch/rank" || fail "other bytes after a rank died"
echo "cluster: the others go on without a killed rank: same bytes"

# A machine dies, with mpirun's daemon: mpirun ends the run. Continued without.
run "$hosts" "$scratch/host" >"$scratch/log" 2>&1 &
job=$!
wait_for_a_matrix "$scratch/host"
for pid in $(ip netns pids "$name-$((hosts - 1))"); do
  kill -KILL "$pid" 2>/dev/null || true
done
wait "$job" && fail "the run went on without its machine"
run "$((hosts - 1))" "$scratch/host" >"$scratch/log" 2>&1 ||
  fail "not continued on $((hosts - 1)) hosts"
grep -q "^continued: " "$scratch/log" || fail "begun anew"
diff -r "$scratch/one" "$scratch/host" || fail "other bytes after a host died"
echo "cluster: continued on $((hosts - 1)) hosts after one died: same bytes"
