#!/usr/bin/env python3
"""Kills `mobe compress` (SIGKILL) at random moments, runs the same command again
until it ends, and compares the result with that of an uninterrupted run, byte
for byte. At every kill, config.json must be there only if all else is. Of
`--kills` kills (12), a job that ends before has had fewer, and another is begun.

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


def start(out):
    options = "--budget 6 --shard-gb 0.004 --threads 1 --quiet".split()
    return subprocess.Popen(
        [PROGRAM, "compress", str(MODEL), str(out), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(folder):
    """All files below a folder, except the journal of the job."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).parts[0] != ".mobe"
    }


def kill_and_resume(out, expected, seconds, numbers, most):
    """Runs until the job ends, killed now and then, `most` times at most. Returns the number of kills
    and what went wrong, if anything."""
    kills = 0
    while True:
        process = start(out)
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=time.time_ns() % 10**9)
    parser.add_argument("--kills", type=int, default=12)
    arguments = parser.parse_args()
    numbers = random.Random(arguments.seed)
    kills, jobs, problem = 0, 0, None
    with tempfile.TemporaryDirectory(prefix="mobe_kill_") as folder:
        whole = Path(folder, "whole")
        begin = time.monotonic()
        process = start(whole)
        message = process.communicate()[1]
        seconds = time.monotonic() - begin
        if process.returncode != 0:
            sys.exit(f"kill: the uninterrupted run failed: {message}")
        expected = contents(whole)
        while kills < arguments.kills and not problem:
            killed = Path(folder, f"killed{jobs}")
            count, problem = kill_and_resume(
                killed, expected, seconds, numbers, arguments.kills - kills
            )
            kills += count
            jobs += 1
            problem = problem or compare(killed, expected)
    print(
        f"kill: {kills} kills in {jobs} jobs of {seconds:.1f} s, {len(expected)} "
        f"files compared (seed {arguments.seed}): {problem or 'same bytes'}"
    )
    return 1 if problem or kills == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
