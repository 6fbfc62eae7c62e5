#!/usr/bin/env python3
"""Kills what writes a folder (compress, reconstruct, merge, a baseline; SIGKILL)
at random moments, runs the same command again until it ends, and compares the
result with that of an uninterrupted run, byte for byte. At every kill,
config.json must be there only if all else is. Of `--kills` kills (15), a job that
ends before has had fewer, and another is begun.

The program is $MOBE, or build/release/mobe.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("MOBE", str(REPOSITORY / "build/release/mobe"))
MODEL = REPOSITORY / "models/mini-qwen3-moe"


def start(command):
    return subprocess.Popen(
        [PROGRAM, *map(str, command), "--threads", "1", "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(command):
    """Seconds of an uninterrupted run."""
    begin = time.monotonic()
    process = start(command)
    message = process.communicate()[1]
    if process.returncode != 0:
        sys.exit(f"kill: the uninterrupted run failed: {message}")
    return time.monotonic() - begin


def contents(folder):
    """All files below a folder, except the journal of the job."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != ".mobe"
    }


def kill_and_resume(command, out, expected, seconds, numbers, most):
    """Runs until the job ends, killed now and then, `most` times at most. Returns the number of kills
    and what went wrong, if anything."""
    kills = 0
    while True:
        process = start(command)
        # From none to a sixth of a whole run: every run gets a bit further, and
        # some are killed before they do anything.
        delay = numbers.uniform(0, seconds / 6) if kills < most else None
        try:
            message = process.communicate(timeout=delay)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            # Killed after its last write, it has nothing left to be run for.
            if not (out / "config.json").exists():
                continue
            missing = expected.keys() - contents(out).keys()
            if missing:
                return kills, f"config.json was there before {sorted(missing)}"
            if not (out / ".mobe/job.json").exists():
                return kills, None
            continue
        if process.returncode != 0:
            return kills, f"exit code {process.returncode}: {message}"
        return kills, None


def compare(out, expected):
    """What is wrong with the result of a job, or None."""
    found = contents(out)
    names = expected.keys() | found.keys()
    different = sorted(n for n in names if expected.get(n) != found.get(n))
    if different:
        return f"other bytes in {different}"
    # A killed removal of the journal may leave what names no job.
    if (out / ".mobe/job.json").exists():
        return "the journal is still there"
    return None


def jobs_of(folder):
    """(name, share of the kills, command without its output, its place)."""
    recipe = "--budget 6 --shard-gb 0.004".split()
    quick = "--passes 1 --layers 1-2 --shard-gb 0.001".split()
    made = folder / "compress"
    parts = [folder / f"part{i}" for i in range(2)]
    for i, part in enumerate(parts):
        run(["compress", MODEL, part, *quick, "--shard", f"{i}/2"])
    return [
        ("compress", 0.4, ["compress", MODEL, None, *recipe]),
        ("reconstruct", 0.2, ["reconstruct", made, None, "--shard-gb", "0.001"]),
        ("merge", 0.2, ["merge", MODEL, None, *parts]),
        ("svd", 0.2, ["compress", MODEL, None, "--method", "svd", *quick[2:]]),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=time.time_ns() % 10**9)
    parser.add_argument("--kills", type=int, default=15)
    arguments = parser.parse_args()
    numbers = random.Random(arguments.seed)
    failed = False
    with tempfile.TemporaryDirectory(prefix="mobe_kill_") as root:
        folder = Path(root)
        for name, share, command in jobs_of(folder):

            def to(out):
                return [out if part is None else part for part in command]

            seconds = run(to(folder / name))
            expected = contents(folder / name)
            kills, jobs, problem = 0, 0, None
            wanted = round(share * arguments.kills)
            while kills < wanted and not problem:
                out = folder / f"{name}{jobs}"
                count, problem = kill_and_resume(
                    to(out), out, expected, seconds, numbers, wanted - kills
                )
                kills += count
                jobs += 1
                problem = problem or compare(out, expected)
            print(
                f"kill: {name}: {kills} kills in {jobs} jobs of {seconds:.1f} s, "
                f"{len(expected)} files compared (seed {arguments.seed}): "
                f"{problem or 'same bytes'}"
            )
            failed = failed or problem is not None or kills == 0
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
