"""Two commands at once in one folder: one works, and the other says so, or that all
is done; the bytes are those of one alone."""

import itertools
import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("MOBE", REPOSITORY / "build/release/mobe")
MODEL = REPOSITORY / "models/mini-qwen3-moe"
QUICK = "--passes 1 --layers 1-2 --shard-gb 0.002 --threads 1".split()


@pytest.fixture(scope="module")
def commands(mobe, tmp_path_factory):
    """The commands by name, as functions of their output."""
    folder = tmp_path_factory.mktemp("once")
    made, part = folder / "made", folder / "part"
    mobe("compress", MODEL, made, *QUICK)
    mobe("compress", MODEL, part, *QUICK, "--shard", "0/1")
    return {
        "compress": lambda out: ["compress", MODEL, out, *QUICK],
        "merge": lambda out: ["merge", MODEL, out, part],
        "svd": lambda out: ["compress", MODEL, out, *QUICK[2:], "--method", "svd"],
        "reconstruct": lambda out: ["reconstruct", made, out, "--threads", 1],
    }


@pytest.fixture(scope="module")
def alone(mobe, commands, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    for name, command in commands.items():
        mobe(*command(folder / name))
    return {name: contents(folder / name) for name in commands}


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def start(command):
    return subprocess.Popen(
        [str(part) for part in (PROGRAM, *command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


PAIRS = list(
    itertools.combinations_with_replacement(
        ["compress", "merge", "svd", "reconstruct"], 2
    )
)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_one_wins(pair, commands, alone, tmp_path):
    out = tmp_path / "out"
    processes = [start(commands[name](out)) for name in pair]
    ended = [process.communicate(timeout=100) for process in processes]
    winners = []
    for name, process, (printed, error) in zip(pair, processes, ended):
        if process.returncode == 0:
            winners.append(name)
            continue
        assert process.returncode == 1, error
        assert (
            "another mobe is at work in this folder" in error
            or "holds a job begun by another command" in error
            or "holds a model made by another command" in error
        )
    assert winners
    # merge writes what compress does.
    assert contents(out) == alone[winners[0]]
    for process, (printed, _) in zip(processes, ended):
        if len(winners) == 2 and "finished before" in printed:
            break
    else:
        assert len(winners) == 1, ended
