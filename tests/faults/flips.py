"""Single bits flipped and blocks of 4 KiB zeroed in what is kept to go on from and in
what was written: resume, merge or verify notices, or the damage has no effect."""

import os
import shutil
import signal

from common import JOBS, contents, difference, must, run
from kills import Profile, environment

COUNT = 400
BLOCK = 4096
OUTPUTS = {"compress": "model", "shards": "model", "calibrated": "model", "fp8": "fp8"}


def damage(rng, folder):
    """Flips a bit (of 3 in 4 tries) or zeroes a block in one of the files; their
    times stay, as those of what rots. Returns what it did."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size > 0)
    # Weights have most of the bytes, the others most of what a bit can mean.
    sizes = [path.stat().st_size for path in files]
    path = rng.choice((rng.choice(files), rng.choices(files, sizes)[0]))
    times = path.stat()
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    if rng.random() < 0.75:
        bit = rng.randrange(8)
        data[at] ^= 1 << bit
        what = f"bit {bit} of byte {at}"
    else:
        at = at // BLOCK * BLOCK
        end = min(at + BLOCK, len(data))
        if not any(data[at:end]):
            return damage(rng, folder)
        data[at:end] = bytes(end - at)
        what = f"bytes {at} to {end} zeroed"
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return f"{what} of {path.relative_to(folder.parent)}"


def copy_of_part(world, rng, folder):
    part = rng.choice(("part0", "part1"))
    shutil.copytree(world.files[part], folder / part)
    template = JOBS["merge"].replace("{" + part + "}", str(folder / part))
    command = world.command(template, folder / "out")
    return folder / part, command, world.expected("merge"), "model"


def interrupted_job(world, rng, folder):
    name = rng.choice(("compress", "shards", "calibrated", "split"))
    command = world.job(name, folder / "out")
    # Of its renames the first makes job.json; with the last it is done.
    at = rng.randint(3, Profile.of(world, name).calls["rename"] - 1)
    counts = folder / "counts"
    kill = environment(world, counts, call="rename", at=at, do=-signal.SIGKILL)
    run(command, env=kill)
    return folder / "out", command, world.expected(name), "model"


def finished_output(world, rng, folder):
    name = rng.choice(list(OUTPUTS))
    kept = world.folder / f"finished_{name}"
    if not kept.exists():
        must(world.job(name, kept))
    shutil.copytree(kept, folder / "out")
    return folder / "out", None, None, OUTPUTS[name]


def attempt(world, rng, seed, number):
    stage = rng.choice((copy_of_part, interrupted_job, finished_output))
    with world.scratch() as folder:
        place, command, expected, model = stage(world, rng, folder)
        what = f"{stage.__name__}: {damage(rng, place)}"
        verify = world.command(f"verify {{out}} --against {{{model}}}", folder / "out")
        if command:
            what += f", then `mobe {command}`"
            ended = run(command)
            problem = ended.problem()
            if problem or ended.code == 1:
                return what, problem
            changed = difference(contents(folder / "out"), expected)
            if changed is None:
                return what, None
            what += f", whose result differs ({changed})"
        ended = run(verify)
        missed = f"`mobe {verify}` says ok"
        return what, ended.problem() if ended.code else missed
