#!/usr/bin/env python3
"""Damages, kills and starves the program in every way that we know of, and looks
whether it keeps its word: what is damaged is noticed, what is interrupted goes on to
the same bytes, what can't be done ends with one line.

Each try depends on the seed and its number alone: `--only KIND --seed S --first N
--count 1` repeats the N-th. The program is $MOBE, or build/release/mobe."""

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import descriptors
import flips
import kills
import limits
import pairs
from common import Skipped, World

# A kind has COUNT, the tries of a whole run, and attempt(world, rng, seed, number), which
# gives what it did, and what was wrong with how that ended or None; or throws Skipped.
KINDS = {m.__name__: m for m in (flips, kills, limits, pairs, descriptors)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=KINDS, action="append", help="kinds to try")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--count", type=int, help="tries of each kind (default: all)")
    parser.add_argument("--sample", action="store_true", help="a tenth of all tries")
    parser.add_argument("--first", type=int, default=0, help="number of the first try")
    parser.add_argument("--verbose", action="store_true", help="show what held, too")
    arguments = parser.parse_args()
    # A shell that starts us in the background has us, and what we start, ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    failures = 0
    with tempfile.TemporaryDirectory(prefix="mobe_faults_") as folder:
        Path(folder).chmod(0o755)  # another user reads here
        world = World(Path(folder))
        for name in arguments.only or KINDS:
            failures += try_kind(name, world, arguments)
    return 1 if failures else 0


def try_kind(name, world, arguments):
    kind = KINDS[name]
    begin, failed, done, skipped = time.monotonic(), 0, 0, {}
    count = kind.COUNT // (10 if arguments.sample else 1)
    if arguments.count is not None:
        count = arguments.count
    for number in range(arguments.first, arguments.first + count):
        rng = random.Random(f"{name} {arguments.seed} {number}")
        try:
            what, problem = kind.attempt(world, rng, arguments.seed, number)
        except Skipped as reason:
            skipped[str(reason)] = skipped.get(str(reason), 0) + 1
            continue
        done += 1
        problem = problem or world.inputs_problem()
        failed += problem is not None
        if problem or arguments.verbose:
            line = f"{name} {number}: {what}: {problem or 'holds'}"
            print(line.replace(f"{world.folder}/", "").rstrip(), flush=True)
    for reason, times in skipped.items():
        print(f"{name}: {times} tries skipped: {reason}")
    print(
        f"{name}: {done} tries, {failed} failures, {time.monotonic() - begin:.0f} s "
        f"(seed {arguments.seed})",
        flush=True,
    )
    return failed


if __name__ == "__main__":
    sys.exit(main())
