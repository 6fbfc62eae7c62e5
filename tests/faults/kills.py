"""Jobs killed or failed at random points: the same command again finishes with the
bytes of an undisturbed run, and nothing is left or lost."""

import errno
import os
import signal
import struct
import subprocess
import time
from pathlib import Path

from common import JOBS, contents, difference, finish, run, start

COUNT = 400
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# What may fail (the names are fail.c's), and with what.
ERRORS = {
    "write": (errno.ENOSPC, errno.EIO, errno.EFBIG),
    "open": (errno.ENOSPC, errno.EMFILE, errno.EACCES),
    "mkdir": (errno.ENOSPC, errno.EACCES),
    "rename": (errno.ENOSPC, errno.EIO),
    "unlink": (errno.EIO, errno.EBUSY),
    "close": (errno.EIO, errno.ENOSPC),
    "fsync": (errno.EIO, errno.ENOSPC),
    "ftruncate": (errno.ENOSPC, errno.EIO),
    "mmap": (errno.ENOMEM,),
    "pthread_create": (errno.EAGAIN,),
    "malloc": (errno.ENOMEM,),
}
FILE_CALLS = tuple(ERRORS)[:8]


def environment(world, counts, call=None, at=0, do=0):
    library = world.folder / "fail.so"
    if not library.exists():
        source = Path(__file__).with_name("fail.c")
        subprocess.run(
            ["cc", "-O1", "-fPIC", "-shared", source, "-o", library], check=True
        )
    values = {"LD_PRELOAD": library, "FAULT_COUNTS": counts}
    if call:
        values |= {"FAULT_CALL": call, "FAULT_AT": at, "FAULT_DO": do}
    return {**os.environ, **{key: str(value) for key, value in values.items()}}


class Profile:
    """How long a job takes and how often it makes each call."""

    known = {}

    def __init__(self, world, name):
        with world.scratch() as folder:
            counts = folder / "counts"
            begin = time.monotonic()
            ended = run(world.job(name, folder / "out"), env=environment(world, counts))
            self.seconds = time.monotonic() - begin
            if ended.code != 0:
                raise SystemExit(
                    f"faults: {name} fails with fail.c preloaded: {ended.err}"
                )
            lines = struct.iter_unpack("24sQ", counts.read_bytes())
            self.calls = {call.rstrip(b"\0").decode(): n for call, n in lines if n}

    @classmethod
    def of(cls, world, name):
        if name not in cls.known:
            cls.known[name] = cls(world, name)
        return cls.known[name]


def disturb(world, rng, name, command, folder):
    """Runs a job with one fault. Returns what it was, how the job ended, and the
    signals that it may have died of."""
    profile = Profile.of(world, name)
    way = rng.choice(("signal", "signal at", "fail", "fail", "resources"))
    if way == "signal":
        delay, number = rng.uniform(0, 1.1 * profile.seconds), rng.choice(SIGNALS)
        process = start(command)
        time.sleep(delay)
        process.send_signal(number)
        return f"{number.name} after {delay:.3f} s", finish(process, command), (number,)
    calls = (
        ("malloc", "malloc", "mmap", "pthread_create")
        if way == "resources"
        else FILE_CALLS
    )
    call = rng.choice([c for c in calls if c in profile.calls])
    at = rng.randint(1, profile.calls[call])
    sent = (rng.choice(SIGNALS),) if way == "signal at" else ()
    do = -sent[0] if sent else rng.choice(ERRORS[call])
    what = sent[0].name if sent else errno.errorcode[do]
    ended = run(command, env=environment(world, folder / "counts", call, at, do))
    (folder / "counts").unlink(missing_ok=True)
    return f"{what} at {call} {at} of {profile.calls[call]}", ended, sent


def half_problem(out, ended, expected):
    """What is wrong with what a disturbed run left: whatever looks finished is so."""
    if ended.code != 0 and not out.is_file() and not (out / "config.json").exists():
        return None
    # A journal that could not be removed is another run's to remove; a part is one.
    finished = {k: v for k, v in expected.items() if k.split("/")[0] != ".mobe"}
    changed = difference(contents(out, without=(".mobe",)), finished)
    if changed is None:
        return None
    return (
        f"{'exit code 0' if ended.code == 0 else 'config.json is there'}, but {changed}"
    )


def attempt(world, rng, seed, number):
    name = rng.choice(list(JOBS))
    expected = world.expected(name)
    with world.scratch() as folder:
        out = folder / "out"
        command = world.job(name, out, threads=rng.choice((1, 2)))
        said = []
        for _ in range(rng.choice((1, 1, 2))):
            fault, ended, sent = disturb(world, rng, name, command, folder)
            said.append(fault)
            what = f"{', then '.join(said)} of `mobe {command}`"
            problem = ended.problem(sent) or half_problem(out, ended, expected)
            if problem:
                return what, problem
        # A file that is whole is not written again.
        if not out.is_file() or difference(contents(out), expected):
            ended = run(command)
            if ended.code != 0:
                return (
                    what,
                    f"the same command again ends with {ended.code}: {ended.err}",
                )
        problem = difference(contents(out), expected)
        left = [path.name for path in folder.iterdir() if path != out]
        return what, problem or (f"left beside it: {left}" if left else None)
