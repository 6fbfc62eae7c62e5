#!/usr/bin/env python3
"""Kills `mobe compress` (SIGKILL) at random moments, runs the same command again
until it ends, and compares the result with that of an uninterrupted run, byte
for byte. At every kill, config.json must be there only if all else is.

The program is $MOBE, or build/release/mobe.
"""

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
KILLS = 12


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


def kill_and_resume(out, expected, seconds, numbers):
    """Runs until the job ends, killed now and then. Returns the number of kills
    and what went wrong, if anything."""
    kills = 0
    while True:
        process = start(out)
        # From none to a sixth of a whole run: every run gets a bit further, and
        # some are killed before they do anything.
        delay = numbers.uniform(0, seconds / 6) if kills < KILLS else None
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


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else time.time_ns() % 10**9
    numbers = random.Random(seed)
    problem = None
    with tempfile.TemporaryDirectory(prefix="mobe_kill_") as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        begin = time.monotonic()
        process = start(whole)
        message = process.communicate()[1]
        seconds = time.monotonic() - begin
        if process.returncode != 0:
            sys.exit(f"kill: the uninterrupted run failed: {message}")
        expected = contents(whole)
        kills, problem = kill_and_resume(killed, expected, seconds, numbers)
        found = contents(killed)
        names = expected.keys() | found.keys()
        different = sorted(n for n in names if expected.get(n) != found.get(n))
        if not problem and different:
            problem = f"other bytes in {different}"
        # A killed removal of the journal may leave what names no job.
        if not problem and (killed / ".mobe/job.json").exists():
            problem = "the journal is still there"
    print(
        f"kill: {kills} kills in a job of {seconds:.1f} s, {len(names)} files "
        f"compared (seed {seed}): {problem or 'same bytes'}"
    )
    return 1 if problem or kills == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
