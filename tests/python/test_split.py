"""compress --split auto, end to end: ratio, every command on what it writes, and the
same bytes whatever the threads, after a kill, in shares."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

PROGRAM = os.environ.get(
    "MOBE", Path(__file__).resolve().parents[2] / "build/release/mobe"
)
OPTIONS = ["--ratio", 0.7, "--split", "auto", "--passes", 20]


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def original(data):
    return data / "models/qwen3_moe"


@pytest.fixture(scope="module")
def small(mobe, original, tmp_path_factory):
    """A folder, and what compress said of it."""
    out = tmp_path_factory.mktemp("split") / "out"
    return out, mobe("compress", original, out, *OPTIONS, "--json")


def test_within_the_ratio_and_told_everywhere(small, mobe, original, tmp_path):
    out, report = small
    assert 0.68 < report["ratio_experts"] <= 0.7
    assert {m["matrix"] for m in report["matrices"]} <= {"gate", "up", "down"}
    config = json.loads((out / "config.json").read_text())
    assert config["mobe"]["factors"] == report["factors"]
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["options"]["split"].startswith("auto, ratio 0.7")
    assert recipe["options"]["shapes"] == report["factors"]
    assert mobe("inspect", out, "--json")["mobe"]["factors"] == report["factors"]
    assert mobe("verify", out, "--against", original, "--json")["ok"]
    mobe("reconstruct", out, tmp_path / "plain")
    mobe("report", out, "-o", tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_dry_run_chooses_the_same_and_leaves_nothing(small, mobe, original, tmp_path):
    _, report = small
    for calibrate in ([], ["--calibrate", "random", "--calibrate-tokens", 64]):
        out = tmp_path / "dry"
        plan = mobe(
            "compress", original, out, *OPTIONS, *calibrate, "--dry-run", "--json"
        )
        assert not out.exists()
        if not calibrate:
            assert plan["factors"] == report["factors"]
            assert plan["split_seconds"] > 0
    text = mobe("compress", original, out, *OPTIONS, "--dry-run")
    assert "bases x rank of each layer:" in text


def test_the_same_bytes_on_other_threads(small, mobe, original, tmp_path):
    out, _ = small
    mobe("compress", original, tmp_path / "one", *OPTIONS, "--threads", 1)
    assert contents(tmp_path / "one") == contents(out)


def test_the_same_bytes_after_kills(small, mobe, original, tmp_path):
    out, _ = small
    folder = tmp_path / "killed"
    command = [str(a) for a in ("compress", original, folder, *OPTIONS)]
    for delay in (0.05, 0.2, 0.4):  # in the choice, and behind it
        process = subprocess.Popen(
            [PROGRAM, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    if not (folder / "config.json").exists():
        mobe(*command)
    assert contents(folder) == contents(out)


def test_shares_choose_alike(small, mobe, original, tmp_path):
    out, _ = small
    parts = [tmp_path / "a", tmp_path / "b"]
    for i, part in enumerate(parts):
        mobe("compress", original, part, *OPTIONS, "--shard", f"{i}/2")
    mobe("merge", original, tmp_path / "merged", *parts)
    assert contents(tmp_path / "merged") == contents(out)


def test_calibrated(mobe, original, tmp_path):
    options = [*OPTIONS, "--calibrate", "random", "--calibrate-tokens", 200]
    report = mobe("compress", original, tmp_path / "out", *options, "--json")
    assert report["ratio_experts"] <= 0.7
    assert mobe("verify", tmp_path / "out", "--against", original, "--json")["ok"]


def test_what_is_refused(small, mobe, original, tmp_path):
    out, _ = small
    assert "finished before" in mobe("compress", original, out, *OPTIONS)
    for option in (["--rank", 16], ["--basis-rank", 4], ["--method", "svd"]):
        said = mobe("compress", original, tmp_path / "x", *OPTIONS, *option, code=1)
        assert "--split auto chooses bases and ranks" in said
    small_ratio = ["--ratio", 0.1, "--split", "auto"]
    said = mobe("compress", original, tmp_path / "x", *small_ratio, code=1)
    assert "an automatic split needs at least 0.282" in said
    # A job that was begun keeps its ratio.
    part = tmp_path / "part"
    mobe("compress", original, part, *OPTIONS, "--shard", "0/2")
    other = ["--ratio", 0.8, "--split", "auto", "--passes", 20, "--shard", "0/2"]
    said = mobe("compress", original, part, *other, code=1)
    assert "ratio 0.8, gate up down of layers from 0" in said
