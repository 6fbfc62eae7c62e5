"""Two commands at once on one folder: one wins, the other says so, and the folder is
whole and right."""

import time

from common import JOBS, contents, difference, finish, pick, start
from kills import Profile

COUNT = 120
WRITERS = (
    "compress compress",
    "shards shards",
    "split split",
    "svd svd",
    "part part",
    "merge merge",
    "reconstruct reconstruct",
    "compress shards",
    "compress svd",
    "compress merge",
    "compress reconstruct",
    "compress part",
    "svd reconstruct",
    "merge reconstruct",
    "merge svd",
    "report report",
    "logits logits",
    "report logits",
)
READERS = {
    "verify": "verify {out} --against {model}",
    "inspect": "inspect {out}",
    "report of it": "report {out} -o {beside}",
    "run of it": "generate {out} --prompt castle --max-tokens 2",
}
PAIRS = [tuple(pair.split()) for pair in WRITERS] + [
    (job, reader) for job in ("compress", "reconstruct") for reader in READERS
]


def attempt(world, rng, seed, number):
    pair = pick(PAIRS, seed, number)
    with world.scratch() as folder:
        out = folder / "out"
        beside = folder / "page.html"
        commands = [
            (
                world.job(name, out)
                if name in JOBS
                else world.command(READERS[name].replace("{beside}", str(beside)), out)
            )
            for name in pair
        ]
        # Expected results come before, lest their runs disturb.
        expected = [world.expected(name) for name in pair if name in JOBS]
        delay = rng.choice((0, rng.uniform(0, Profile.of(world, pair[0]).seconds)))
        first = start(commands[0])
        time.sleep(delay)
        second = start(commands[1])
        ends = [finish(first, commands[0]), finish(second, commands[1])]
        what = f"`mobe {commands[0]}`, {delay:.3f} s later `mobe {commands[1]}`"
        for ended in ends:
            problem = ended.problem()
            if problem:
                return what, f"{ended.command.split()[0]}: {problem}"
        writers = ends[: len(expected)]
        if not any(ended.code == 0 for ended in writers):
            return what, f"nobody wins: {[ended.err for ended in writers]}"
        beside.unlink(missing_ok=True)
        for ended, result in zip(writers, expected):
            changed = difference(contents(out), result)
            if ended.code == 0 and changed:
                codes = [e.code for e in ends]
                return what, f"exit codes {codes}, but {changed}"
        left = [path.name for path in folder.iterdir() if path != out]
        return what, f"left beside it: {left}" if left else None
