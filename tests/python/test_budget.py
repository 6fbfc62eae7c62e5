"""How long compress goes on, what it says of that beforehand, and what ends it
early: signals, a full disk. Continued, it gives the bytes of one run."""

import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

PROGRAM = os.environ.get(
    "MOBE", Path(__file__).resolve().parents[2] / "build/release/mobe"
)
# Long enough to be stopped in the middle: seconds are left when a matrix is done.
RECIPE = "--passes 50 --layers 1-3 --shard-gb 0.01 --threads 1".split()


@pytest.fixture(scope="module")
def model():
    return Path(__file__).resolve().parents[2] / "models/mini-qwen3-moe"


@pytest.fixture(scope="module")
def whole(mobe, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    mobe("compress", model, out, *RECIPE)
    return contents(out)


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def start(*args, **options):
    return subprocess.Popen(
        [str(part) for part in (PROGRAM, *args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for_record(out):
    for _ in range(3000):
        if list(out.glob(".mobe/layer-*[a-z].json")):
            return
        time.sleep(0.02)
    raise AssertionError(f"{out} has no finished matrix")


@pytest.mark.parametrize(
    "signals, name", [((signal.SIGINT,), "int"), ((signal.SIGTERM,), "term")]
)
def test_a_signal_stops_what_can_be_continued(
    signals, name, mobe, model, whole, tmp_path
):
    out = tmp_path / name
    process = start("compress", model, out, *RECIPE)
    wait_for_record(out)
    process.send_signal(signals[0])
    _, message = process.communicate(timeout=100)
    assert process.returncode == 128 + signals[0]
    # The result lines of finished matrices come before.
    last = message.splitlines()[-1]
    assert last.startswith("mobe: stopped; run the same command to continue: ")
    assert last.endswith(" of 6 matrices are finished")
    assert not (out / "config.json").exists()
    printed = mobe("compress", model, out, *RECIPE)
    finished = last.split(": ")[-1].split()[0]
    assert f"continued: {finished} matrices were finished before" in printed
    assert contents(out) == whole


def test_a_second_signal_ends_at_once(model, tmp_path):
    process = start("compress", model, tmp_path / "out", *RECIPE)
    wait_for_record(tmp_path / "out")
    # Both while it stands still: it can't be between them.
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=100)
    # The first is handled, the other one kills; their order is the kernel's.
    assert process.returncode in (-signal.SIGINT, -signal.SIGTERM)


def test_threads_that_compute_are_not_interrupted(model, tmp_path):
    """oneDNN's float32 products have the stack pointer where a signal's frame
    would overwrite the heap."""
    options = "--passes 1000 --layers 1 --threads 2".split()
    process = start("compress", model, tmp_path / "out", *options)
    busy = {}  # thread -> signals that it blocks, in bits
    tasks = Path(f"/proc/{process.pid}/task")
    for _ in range(3000):
        for task in tasks.iterdir():
            after_name = (task / "stat").read_text().rpartition(") ")[2].split()
            if int(after_name[11]) > 30:  # hundredths of a second
                blocked = (task / "status").read_text().partition("SigBlk:")[2]
                busy[task.name] = int(blocked.split()[0], 16)
        if len(busy) == 2:
            break
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert len(busy) == 2
    for blocked in busy.values():
        for stop in (signal.SIGINT, signal.SIGTERM):
            assert blocked >> (stop - 1) & 1


def test_a_baseline_is_stopped_and_continues(mobe, model, tmp_path):
    out, once = tmp_path / "out", tmp_path / "once"
    command = ["compress", model, out, "--method", "svd", "--bases", 8]
    process = start(*command, "--shard-gb", 0.001)
    while process.poll() is None and not list(out.glob(".mobe/layer-*.json")):
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=100)
    assert process.returncode == 143
    assert message.splitlines()[-1].startswith("mobe: stopped; ")
    mobe(*command, "--shard-gb", 0.001)
    command[2] = once
    mobe(*command, "--shard-gb", 0.001)
    assert contents(out) == contents(once)


def test_a_baseline_does_not_touch_a_job(mobe, model, tmp_path):
    out = tmp_path / "out"
    process = start("compress", model, out, *RECIPE)
    wait_for_record(out)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    before = contents(out)
    method = ["--method", "svd", "--bases", 8]
    message = mobe("compress", model, out, *method, code=1)
    assert 'by another command ("compress", now "compress --method svd")' in message
    assert contents(out) == before


def test_merge_and_reconstruct_are_stopped_too(mobe, model, tmp_path):
    part, out = tmp_path / "part", tmp_path / "out"
    quick = "--passes 1 --layers 2 --shard-gb 0.001 --threads 1".split()
    mobe("compress", model, part, *quick, "--shard", "0/1")
    once = tmp_path / "once"
    mobe("merge", model, once, part)
    plain = tmp_path / "plain"
    mobe("reconstruct", once, plain)
    for command, inputs, expected in (
        ("merge", (model, out, part), once),
        ("reconstruct", (once, tmp_path / "again"), plain),
    ):
        target = inputs[1]
        process = start(command, *inputs)
        while process.poll() is None and not target.exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        _, message = process.communicate(timeout=100)
        if process.returncode != 0:  # it may have been done
            assert process.returncode in (143, -signal.SIGTERM), message
            if process.returncode == 143:
                assert "mobe: stopped; " in message
            mobe(command, *inputs)
        assert contents(target) == contents(expected)


def test_a_file_that_cannot_grow(mobe, model, whole, tmp_path):
    """As a full disk, but for the number of the error."""
    out = tmp_path / "out"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    process = start("compress", model, out, *RECIPE, preexec_fn=limit)
    _, message = process.communicate(timeout=100)
    assert process.returncode == 1
    assert message.startswith(f"mobe: disk full: {out}/.mobe/layer-00001-gate")
    assert message.endswith("; make room there and run the same command again\n")
    mobe("compress", model, out, *RECIPE)
    assert contents(out) == whole


# In a mount namespace of its own: a file system of a few MB, which another file
# fills while compress is at work, and frees again.
FULL_DISK = """
set -e
mount -t tmpfs -o size=$SIZE tmpfs "$DISK" 2> /dev/null || exit 77
"$MOBE" compress "$MODEL" "$DISK/out" $RECIPE > "$LOG" 2>&1 &
mobe=$!
[ -z "$FILL" ] || {
  until ls "$DISK"/out/.mobe/layer-*.json > /dev/null 2>&1; do sleep 0.02; done
  head -c 1G /dev/zero > "$DISK/filler" 2> /dev/null || true
}
code=0
wait $mobe || code=$?
echo "exit code $code" >> "$LOG"
rm -f "$DISK/filler"
ls -A "$DISK" >> "$LOG"
if [ -n "$FILL" ]; then
  "$MOBE" compress "$MODEL" "$DISK/out" $RECIPE >> "$LOG" 2>&1
  cp -r "$DISK/out" "$RESULT"
fi
"""


def on_small_disk(model, folder, size, fill=False, options=()):
    """Gives what was printed; the result is in folder/result."""
    (folder / "disk").mkdir()
    environment = dict(
        os.environ,
        MOBE=str(PROGRAM),
        MODEL=str(model),
        DISK=str(folder / "disk"),
        LOG=str(folder / "log"),
        RESULT=str(folder / "result"),
        RECIPE=" ".join((*RECIPE, *options)),
        SIZE=size,
        FILL="yes" if fill else "",
    )
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", FULL_DISK],
        env=environment,
        timeout=200,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0 and not (folder / "log").exists():
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    log = (folder / "log").read_text()
    assert done.returncode == 0, log + done.stderr
    return log


def test_too_small_a_disk_is_told_before_any_work(model, tmp_path):
    log = on_small_disk(model, tmp_path, "20m")
    assert f"mobe: disk full: {tmp_path}/disk/out: needs " in log
    assert f"are free on {tmp_path}/disk; free some there" in log
    assert log.endswith("exit code 1\n")  # and nothing was written


def test_dry_run_warns_of_too_small_a_disk(model, tmp_path):
    log = on_small_disk(model, tmp_path, "20m", options=["--dry-run"])
    assert f"mobe: warning: {tmp_path}/disk/out: needs " in log
    assert "\ntime: " in log
    assert log.endswith("exit code 0\n")


def test_a_disk_that_fills_up(model, whole, tmp_path):
    log = on_small_disk(model, tmp_path, "60m", fill=True)
    assert "exit code 1\n" in log
    assert "mobe: disk full: " in log
    assert "No space left on device; make room there and run" in log
    assert "continued: " in log
    assert contents(tmp_path / "result") == whole


def test_dry_run_says_what_it_takes(mobe, model, tmp_path):
    out = tmp_path / "out"
    command = ("compress", model, out, "--layers", 2, "--threads", 1)
    plan = mobe(*command, "--passes", 30, "--dry-run", "--json")
    assert not out.exists()
    for key in ("seconds_expected", "operations", "peak_memory_bytes"):
        assert plan[key] > 0
    assert plan["passes"] == 30
    assert plan["disk_bytes"] > plan["bytes_out"]
    assert plan["disk_free_bytes"] > 0
    # 8 n p r d is the products of a pass, of two matrices.
    assert 30 * 2 * 8 * 32 * 96 * 96 * 256 < plan["operations"]
    text = mobe(*command, "--passes", 30, "--dry-run")
    for word in ("peak memory: ", "disk: ", "operations: ", "time: "):
        assert word in text
    # What then happens.
    done = mobe(*command, "--passes", 30, "--json")
    assert done["passes"] == 30
    assert 0.5 < plan["peak_memory_bytes"] / done["peak_rss_bytes"] < 2
    size = sum(path.stat().st_size for path in out.iterdir())
    assert size <= plan["disk_bytes"]


def test_a_time_becomes_passes_once(mobe, model, tmp_path):
    out = tmp_path / "out"
    done = mobe(
        *("compress", model, out, "--layers", 2, "--time", "2s", "--threads", 1),
        "--json",
    )
    assert done["passes"] >= 1


@pytest.mark.parametrize(
    "options, message",
    [
        ("--time 2h --passes 5", "excludes"),
        ("--budget 5 --passes 5", "excludes"),
        ("--budget 5 --time 2h", "excludes"),
    ],
)
def test_one_budget_only(options, message, mobe, model, tmp_path):
    error = mobe("compress", model, tmp_path / "out", *options.split(), code=2)
    assert message in error and error.count("\n") == 1


def test_a_budget_that_is_none(mobe, model, tmp_path):
    for options, message in (
        (("--passes", "2h"), "--passes 2h: expected a number of passes (500)"),
        (("--time", "5"), "--time 5: expected a time (90s, 10m, 2h)"),
        (("--budget", "x"), "--budget x: expected a number of passes (500) or a"),
    ):
        assert message in mobe("compress", model, tmp_path / "o", *options, code=2)
