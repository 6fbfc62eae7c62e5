"""Running in a given amount of memory: never above it, and with the same results."""

import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from control_groups import control_group
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from make_checkpoint import write_checkpoint  # noqa: E402
from model_shapes import make_config  # noqa: E402

IDS = [[(7919 * i + 13) % 30000 for i in range(24)]]
# Of a model's bytes; what the program itself takes is a third of them here.
SHARES = [0.65, 0.8, 1.0, 1.6, 2.5]


@pytest.fixture(scope="module", params=[None, 4], ids=["plain", "factored"])
def model(request, tmp_path_factory):
    """Of a quarter of Qwen3-30B's widths, three layers."""
    folder = tmp_path_factory.mktemp("memory") / "model"
    config = make_config("Qwen3-30B-A3B", layers=3, divisor=4, bases=request.param)
    write_checkpoint(folder, config)
    return folder


def run(program, model, tmp_path, *options):
    """The logits, the peak of resident memory, and what was said."""
    (tmp_path / "ids.json").write_text(json.dumps(IDS))
    out = tmp_path / "logits.safetensors"
    command = ["logits", model, "--ids", tmp_path / "ids.json", "--out", out, "--force"]
    process = subprocess.Popen(
        [str(part) for part in (program, *command, *options)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Not getrusage's number, which is never less than this process has.
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            with open(f"/proc/{process.pid}/status") as lines:
                line = next(line for line in lines if line.startswith("VmHWM:"))
                peak = int(line.split()[1]) * 1024
        time.sleep(0.002)
    err = process.stderr.read()
    assert process.returncode == 0, err
    assert peak > 0
    return load_file(out)["logits"], peak, err


def test_memory_is_a_limit(mobe_program, model, tmp_path):
    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    right, _, said = run(mobe_program, model, tmp_path, "--experts", "fused")
    assert said == ""
    for share in SHARES:
        limit = int(size * share)
        logits, peak, said = run(
            mobe_program, model, tmp_path,
            "--memory", limit, "--built-format", "f32",
        )  # fmt: skip
        assert peak <= limit, (share, said)
        assert said.startswith("memory: at most ")
        assert ("streamed" in said) == (share <= 1), said
        error = (logits - right).abs().max() / right.abs().max()
        assert error < 1e-5, (share, said)
        if "built" not in said:
            assert error == 0


def test_a_prompt_shares_what_is_read(mobe, model):
    """In passes of some hundred tokens, which all go through a layer before the next is
    read: most uses find their expert, though not all experts fit."""
    size = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    command = ["bench", model, "-p", 1500, "-n", 0, "-r", 1, "--experts", "streamed"]
    result = mobe(*command, "--memory", size * 9 // 10, "--json", "--quiet")
    assert 0.5 < result["results"][0]["experts_found"] < 0.99


@pytest.mark.parametrize("bases", [None, 16], ids=["plain", "factored"])
def test_a_group_is_never_too_small(mobe_program, tmp_path, bases):
    """With --memory for a limit of its group, the program is not killed and does not swap:
    20 limits from a quarter of the model on, each met or refused by name, and the least
    that a refusal names is met."""
    folder = tmp_path / "model"
    config = make_config("Qwen3-30B-A3B", layers=6, divisor=4, bases=bases)
    write_checkpoint(folder, config)
    (tmp_path / "ids.json").write_text(json.dumps(IDS))
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    right, _, _ = run(mobe_program, folder, tmp_path, "--experts", "fused")

    def met(group, limit):
        """Whether a limit, in bytes, is met; else what was said."""
        group.set("limit_in_bytes", limit)
        out = tmp_path / "in_group.safetensors"
        out.unlink(missing_ok=True)
        command = ["logits", folder, "--ids", tmp_path / "ids.json", "--out", out]
        command += ["--memory", limit, "--built-format", "f32"]
        done = subprocess.run(
            [str(part) for part in (mobe_program, *command)],
            capture_output=True, text=True, preexec_fn=group.join,
        )  # fmt: skip
        assert "oom_kill 0" in group.get("oom_control"), (limit, done.stderr)
        assert re.search("^total_swap 0$", group.get("stat"), re.MULTILINE)
        if done.returncode == 0:
            error = (load_file(out)["logits"] - right).abs().max() / right.abs().max()
            assert error < 1e-5, (limit, done.stderr)
            return True
        assert done.returncode == 1
        return done.stderr

    def runs_long_prompts(group, limit):
        """Passes as large as there are, in bfloat16."""
        group.set("limit_in_bytes", limit)
        command = ["bench", folder, "-p", 1200, "-n", 2, "--batch", 2, "-r", 1]
        command += ["--dtype", "bfloat16", "--memory", limit, "--quiet"]
        subprocess.run(
            [str(part) for part in (mobe_program, *command)],
            stdout=subprocess.DEVNULL, preexec_fn=group.join, check=True,
        )  # fmt: skip
        assert "oom_kill 0" in group.get("oom_control"), limit

    met_shares = []
    with control_group("memory") as group:
        for share in [0.25 + 0.05 * i for i in range(20)]:
            said = met(group, int(size * share))
            if said is True:
                met_shares.append(share)
                continue
            assert not met_shares, (share, said)  # more is never worse
            least = re.search(r"needs at least ([0-9.]+) MB of memory", said)
            assert least, said
            assert met(group, int(float(least[1]) * 1e6)) is True
        runs_long_prompts(group, int(1.2 * size))
    assert len(met_shares) >= 15, met_shares


def test_streamed_by_name(mobe_program, model, tmp_path):
    right, _, _ = run(mobe_program, model, tmp_path, "--experts", "fused")
    logits, _, said = run(mobe_program, model, tmp_path, "--experts", "streamed")
    assert "experts streamed, 384 of 384 in memory" in said
    assert (logits == right).all()


def test_too_little_is_refused(mobe, model):
    for options in (["--memory", "20MB"], ["--memory", "60MB", "--experts", "fused"]):
        said = mobe("bench", model, "-n", 1, "-p", 0, *options, code=1)
        assert "needs" in said and "(--memory)" in said, said
    said = mobe("bench", model, "--memory", "12 apples", code=2)
    assert "--memory 12 apples: expected a size as 12GB, 800MB or 1.5GiB" in said


def test_a_plan_counts_no_more_than_there_is(mobe_program, data, tmp_path):
    """All experts built, of two layers of 16 with gate and up of 32 x 64, are 524 kB."""
    model = data / "models/qwen3_mobe"
    (tmp_path / "ids.json").write_text("[[1, 2, 3]]")
    command = ["logits", model, "--ids", tmp_path / "ids.json", "--out", tmp_path / "out"]
    command += ["--experts", "cached", "--built-format", "f32", "--memory", "300MB"]
    done = subprocess.run(
        [str(part) for part in (mobe_program, *command)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "  524.29 kB  the most used of them built" in done.stderr, done.stderr
