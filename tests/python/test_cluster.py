"""compress by several processes: ranks of mpirun, and shares that are merged.
Whatever their number, and whoever dies, the bytes are those of one process."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

PROGRAM = os.environ.get(
    "MOBE", Path(__file__).resolve().parents[2] / "build/release/mobe"
)
QUICK = "--budget 3 --layers 1-3 --shard-gb 0.01".split()
# Long enough to be killed in the middle.
LONG = "--budget 40 --layers 1-3 --shard-gb 0.01".split()


def contents(folder):
    """All files below a folder, but for what may stay of a killed journal."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != ".mobe"
    }


def start(ranks, *args, options=(), env=None):
    """`mpirun -n ranks mobe args...`. Skips without mpirun or a build for it."""
    if shutil.which("mpirun") is None:
        pytest.skip("no mpirun")
    libraries = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True)
    if "libmpi" not in libraries.stdout:
        pytest.skip(f"{PROGRAM} was built without MPI")
    command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", ranks]
    if os.geteuid() == 0:
        command.append("--allow-run-as-root")
    return subprocess.Popen(
        [str(part) for part in (*command, *options, PROGRAM, *args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, **(env or {})),
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=100)
    assert process.returncode == code, out + err
    return out, err


def pid_of_rank(rank, out):
    """The process of that rank of the run that writes to `out`."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # ended, or another user's
        mine = str(out).encode() in command and command[0].endswith(b"mobe")
        if mine and f"OMPI_COMM_WORLD_RANK={rank}".encode() in environment:
            return int(entry.name)
    raise AssertionError(f"no process of rank {rank}")


def wait_until(condition, what):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"waited for {what}")


def wait_for(path):
    wait_until(path.exists, path)


def wait_for_records(out, count):
    wait_until(
        lambda: len(list(out.glob(".mobe/layer-*[a-z].json"))) >= count,
        f"{count} finished matrices in {out}",
    )


@pytest.fixture(scope="module")
def model():
    return Path(__file__).resolve().parents[2] / "models/mini-qwen3-moe"


@pytest.fixture(scope="module")
def one(mobe, model, tmp_path_factory):
    """What one process writes."""
    out = tmp_path_factory.mktemp("one") / "quick"
    mobe("compress", model, out, *QUICK, "--threads", 1)
    return contents(out)


@pytest.fixture(scope="module")
def one_long(mobe, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "long"
    mobe("compress", model, out, *LONG, "--threads", 1)
    return contents(out)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_change_no_byte(ranks, one, model, tmp_path):
    out = tmp_path / "out"
    printed, _ = finish(start(ranks, "compress", model, out, *QUICK))
    assert (f"{ranks} ranks" in printed) == (ranks > 1)
    assert printed.count("mean scaled MSE") == 1
    assert contents(out) == one
    assert not (out / ".mobe").exists()


def test_ranks_take_the_split_that_rank_0_chose(mobe, data, tmp_path):
    split = "--ratio 0.7 --split auto --passes 3 --calibrate random".split()
    args = (data / "models/qwen3_moe", *split, "--calibrate-tokens", 100)
    mobe("compress", args[0], tmp_path / "one", *args[1:], "--threads", 1)
    finish(start(3, "compress", args[0], tmp_path / "out", *args[1:]))
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


def test_shares_on_separate_disks(mobe, one, model, tmp_path):
    parts = [tmp_path / f"part{i}" for i in range(3)]
    done = []
    for i, part in enumerate(parts):
        report = mobe(
            "compress", model, part, *QUICK, "--shard", f"{i}/3", "--json"
        )
        done.append(len(report["matrices"]))
        assert not (part / "config.json").exists()
    assert done == [2, 2, 2]
    out = tmp_path / "out"
    error = mobe("merge", model, out, parts[0], parts[2], code=1)
    assert "2 of 6 matrices are in none of the parts, first layer 1 up" in error
    assert "--shard 1/3" in error
    assert not out.exists()
    report = mobe("merge", model, out, *reversed(parts), "--json")
    assert len(report["matrices"]) == 6
    assert contents(out) == one
    assert not (out / ".mobe").exists()


# Groups of experts are fitted within one job.
def test_shares_and_ranks_with_expert_groups(mobe, model, tmp_path):
    quick = [*QUICK, "--groups", 2]
    mobe("compress", model, tmp_path / "one", *quick)
    parts = [tmp_path / f"part{i}" for i in range(2)]
    for i, part in enumerate(parts):
        mobe("compress", model, part, *quick, "--shard", f"{i}/2")
    mobe("merge", model, tmp_path / "merged", *parts)
    assert contents(tmp_path / "merged") == contents(tmp_path / "one")
    finish(start(2, "compress", model, tmp_path / "ranks", *quick))
    assert contents(tmp_path / "ranks") == contents(tmp_path / "one")


def test_more_shares_than_matrices(mobe, one, model, tmp_path):
    parts = [tmp_path / f"part{i}" for i in range(7)]
    for i, part in enumerate(parts):
        mobe("compress", model, part, *QUICK, "--shard", f"{i}/7")
    mobe("merge", model, tmp_path / "out", *parts)
    assert contents(tmp_path / "out") == one


def test_a_share_continues(mobe, one, model, tmp_path):
    out = tmp_path / "part"
    options = ["compress", model, out, *QUICK, "--shard", "0/2", "--json"]
    assert mobe(*options)["resumed"] == 0
    assert mobe(*options)["resumed"] == 3
    options[options.index("0/2")] = "1/2"
    error = mobe(*options[:-1], code=1)
    assert "another --shard (part 0/2, now part 1/2)" in error


def test_parts_of_other_jobs(mobe, model, data, tmp_path):
    quick = [*QUICK, "--threads", 1]
    mobe("compress", model, tmp_path / "a", *quick, "--shard", "0/2")
    mobe("compress", model, tmp_path / "b", *quick, "--shard", "1/2", "--seed", 1)
    out = tmp_path / "out"
    error = mobe("merge", model, out, tmp_path / "a", tmp_path / "b", code=1)
    assert "b: belongs to another job than" in error
    assert "(seed: 1, expected 0)" in error
    error = mobe("merge", model, out, model, code=1)
    assert "model.json" not in error and "not a part" in error
    mobe("compress", model, tmp_path / "c", *quick, "--shard", "1/2")
    # The same shapes, but another weight.
    other = tmp_path / "model"
    shutil.copytree(model, other)
    weights = other / "model-00002-of-00003.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    error = mobe("merge", other, out, tmp_path / "a", tmp_path / "c", code=1)
    assert f"another input ({weights.name}: " in error


@pytest.mark.parametrize(
    "options, message, code",
    [
        (["--shard", "3/3"], "expected i/N with i from 0 to N - 1", 2),
        (["--shard", "-1/3"], "expected i/N", 2),
        (["--shard", "1"], "expected i/N", 2),
        (["--shard", "0/2", "--budget", "10s"], "a share needs a budget of passes", 1),
    ],
)
def test_wrong_shares(options, message, code, mobe, model, tmp_path):
    assert message in mobe("compress", model, tmp_path / "out", *options, code=code)


def test_killed_rank_ends_the_run_which_continues(one_long, model, tmp_path):
    """mpirun's own way: all end with one. Continued with another number."""
    out = tmp_path / "out"
    process = start(4, "compress", model, out, *LONG, "--threads", 1)
    wait_for_records(out, 1)
    os.kill(pid_of_rank(2, out), signal.SIGKILL)
    process.communicate(timeout=100)
    assert process.returncode != 0
    assert not (out / "config.json").exists()
    printed, _ = finish(start(2, "compress", model, out, *LONG, "--threads", 1))
    assert "continued: " in printed
    assert contents(out) == one_long


def test_the_others_go_on_without_a_killed_rank(one_long, model, tmp_path):
    out = tmp_path / "out"
    process = start(
        3,
        *["compress", model, out, *LONG, "--threads", 1],
        options=["--enable-recovery"],
        env={"MOBE_RANK_TIMEOUT": "5"},
    )
    wait_for_records(out, 1)
    os.kill(pid_of_rank(2, out), signal.SIGKILL)
    printed, _ = finish(process)
    assert "continued: " not in printed
    assert contents(out) == one_long


def test_the_others_say_that_rank_0_is_killed(model, one_long, tmp_path):
    out = tmp_path / "out"
    process = start(
        3,
        *["compress", model, out, *LONG, "--threads", 1],
        options=["--enable-recovery"],
        env={"MOBE_RANK_TIMEOUT": "2"},
    )
    wait_for_records(out, 1)
    os.kill(pid_of_rank(0, out), signal.SIGKILL)
    # Open MPI 4's mpirun ends with 0 when it was told to outlive failures, whatever
    # its ranks say: not even MPI_Abort changes that.
    _, error = process.communicate(timeout=100)
    assert error.count("nothing is heard of rank 0 any more, and the job is not") == 2
    assert not (out / "config.json").exists()
    printed, _ = finish(start(2, "compress", model, out, *LONG, "--threads", 1))
    assert "continued: " in printed and contents(out) == one_long
    # Once more: rank 0 sees that all is done, and the others end with it.
    printed, _ = finish(start(2, "compress", model, out, *LONG, "--threads", 1))
    assert "finished before, by the same command" in printed
    assert contents(out) == one_long


def test_failure_of_one_rank_ends_all(mobe, one, model, tmp_path):
    out = tmp_path / "out"
    # Whoever gets this matrix can't write its factors.
    journal = out / ".mobe"
    names = ["", *(f".rank{r}" for r in range(4))]
    blocks = [journal / f"layer-00002-up{n}.safetensors.mobe-tmp" for n in names]
    for block in blocks:
        block.mkdir(parents=True)
    _, error = finish(start(4, "compress", model, out, *QUICK), code=1)
    assert error.count("mobe: ") == 1
    assert "layer-00002-up" in error and "Is a directory" in error
    assert not (out / "config.json").exists()
    for block in blocks:
        block.rmdir()
    # Its file is opened before the fit, so others may not have finished any.
    mobe("compress", model, out, *QUICK)
    assert contents(out) == one


def test_one_message_when_all_fail(model, tmp_path):
    options = ["compress", model, tmp_path / "out", "--bases", 99]
    _, error = finish(start(3, *options), code=1)
    assert error.count("mobe: ") == 1
    assert "99 bases: expected 1 to the number of experts (32)" in error


def test_ranks_must_agree(model, tmp_path):
    """Rank 1 computes with other instructions, and so to other bytes."""
    process = start(
        1,
        *["compress", model, tmp_path / "out", *QUICK],
        *[":", "-n", 1, "-x", "MOBE_KERNELS=scalar", PROGRAM],
        *["compress", model, tmp_path / "out", *QUICK],
    )
    _, error = finish(process, code=1)
    assert "rank 1 on " in error and 'its kernels is "scalar' in error


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_all(rank, one_long, model, tmp_path):
    out = tmp_path / "out"
    process = start(2, "compress", model, out, *LONG)
    wait_for_records(out, 1)
    os.kill(pid_of_rank(rank, out), signal.SIGTERM)
    _, error = process.communicate(timeout=100)
    assert process.returncode != 0
    assert error.count("stopped; run the same command to continue: ") == 1
    assert "internal error" not in error and not (out / "config.json").exists()
    finish(start(2, "compress", model, out, *LONG))
    assert contents(out) == one_long


def test_ctrl_c_of_mpirun(mobe, model, tmp_path):
    # mpirun takes up to two seconds over it: a job of LONG might be done by then, and
    # any on enough threads.
    longer = "--budget 150 --layers 1-2 --shard-gb 0.01 --threads 1".split()
    one, out = tmp_path / "one", tmp_path / "out"
    mobe("compress", model, one, *longer)
    process = start(2, "compress", model, out, *longer)
    wait_for(out / ".mobe/checked.json")  # now it fits
    process.send_signal(signal.SIGINT)  # it sends SIGTERM, and soon SIGKILL
    process.communicate(timeout=100)
    assert process.returncode != 0
    assert not (out / "config.json").exists()
    finish(start(2, "compress", model, out, *longer))
    assert contents(out) == contents(one)
