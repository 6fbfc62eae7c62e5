"""Jobs killed or failed at random points: the same command again finishes with the
bytes of an undisturbed run, and nothing is left or lost."""

import errno
import os
import resource
import signal
import struct
import subprocess
import time
from pathlib import Path

from common import JOBS, LOGS, contents, difference, finish, run, start

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
    "stat": (errno.EIO, errno.ESTALE, errno.EACCES),
    "read": (errno.EIO, errno.EMFILE, errno.ENOMEM),
}
FILE_CALLS = (*tuple(ERRORS)[:8], "stat", "read")


def environment(world, counts, **fault):
    """That of a program which counts its calls in a file and, with call, at and do (and
    more) of fail.c, fails at one."""
    library = world.folder / "fail.so"
    if not library.exists():
        source = Path(__file__).with_name("fail.c")
        subprocess.run(
            ["cc", "-O1", "-fPIC", "-shared", source, "-o", library], check=True
        )
    values = {"LD_PRELOAD": library, "FAULT_COUNTS": counts}
    values |= {
        f"FAULT_{key.upper()}": int(v) if key == "do" else v for key, v in fault.items()
    }
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

    def call(self, rng, names):
        """One of the calls of these names, and the fault that is there."""
        name = rng.choice([n for n in names if n in self.calls])
        at = rng.randint(1, self.calls[name])
        return f"{name} {at} of {self.calls[name]}", {"call": name, "at": at}

    @classmethod
    def of(cls, world, name):
        if name not in cls.known:
            cls.known[name] = cls(world, name)
        return cls.known[name]


# Each runs a job with one fault, and gives what it was, how the job ended, and the
# signal that it may have died of or none.
def signal_in_time(world, rng, profile, command, counts):
    number, delay = rng.choice(SIGNALS), rng.uniform(0, 1.1 * profile.seconds)
    process = start(command)
    time.sleep(delay)
    process.send_signal(number)
    return f"{number.name} after {delay:.3f} s", finish(process, command), (number,)


def signal_at_call(world, rng, profile, command, counts):
    number = rng.choice(SIGNALS)
    what, at = profile.call(rng, FILE_CALLS)
    faulty = environment(world, counts, **at, do=-number)
    return f"{number.name} at {what}", run(command, env=faulty), (number,)


def failing_call(world, rng, profile, command, counts):
    what, at = profile.call(rng, FILE_CALLS)
    error = rng.choice(ERRORS[at["call"]])
    more = {"more": 1} if rng.random() < 0.3 else {}
    what = f"{errno.errorcode[error]} at {what}{' and all later' if more else ''}"
    return (
        what,
        run(command, env=environment(world, counts, **at, do=error, **more)),
        (),
    )


def no_resources(world, rng, profile, command, counts):
    what, at = profile.call(rng, ("malloc", "malloc", "mmap", "pthread_create"))
    error = ERRORS[at["call"]][0]
    faulty = environment(world, counts, **at, do=error)
    return f"{errno.errorcode[error]} at {what}", run(command, env=faulty), ()


def no_large_file(world, rng, profile, command, counts):
    size = rng.randrange(700_000)  # the weights of the tiny models have as many bytes

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return f"files of at most {size} bytes", run(command, preexec_fn=limit), ()


WAYS = (
    signal_in_time,
    signal_at_call,
    failing_call,
    failing_call,
    no_resources,
    no_large_file,
)


def half_problem(name, out, ended, expected):
    """What is wrong with what a disturbed run left: whatever looks finished is so."""
    whole = out.is_file() and name not in LOGS or (out / "config.json").exists()
    if ended.code != 0 and not whole:
        return None
    # A journal that could not be removed is another run's to remove; a part is one.
    finished = {k: v for k, v in expected.items() if k.split("/")[0] != ".mobe"}
    changed = difference(contents(out, without=(".mobe",)), finished)
    if changed is None:
        return None
    return (
        f"{'exit code 0' if ended.code == 0 else 'config.json is there'}, but {changed}"
    )


def finished_matrices(out):
    return {path.name for path in out.glob(".mobe/layer-*.json")}


def attempt(world, rng, seed, number):
    name = rng.choice(list(JOBS))
    expected = world.expected(name)
    with world.scratch() as folder:
        out = folder / "out"
        command = world.job(name, out, threads=rng.choice((1, 2)))
        said = []
        for _ in range(rng.choice((1, 1, 2))):
            counts = folder / "counts"
            profile = Profile.of(world, name)
            kept = finished_matrices(out)
            fault, ended, sent = rng.choice(WAYS)(world, rng, profile, command, counts)
            counts.unlink(missing_ok=True)
            said.append(fault)
            what = f"{', then '.join(said)} of `mobe {command}`"
            problem = ended.problem(sent) or half_problem(name, out, ended, expected)
            lost = kept - finished_matrices(out)
            if lost and not (out / "config.json").exists():
                problem = problem or f"begun again: {', '.join(sorted(lost))}"
            if problem:
                return what, problem
        ended = run(command)
        if ended.code != 0:
            again = f"the same command again ends with {ended.code}: {ended.err}"
            return what, again
        problem = difference(contents(out), expected)
        left = [path.name for path in folder.iterdir() if path != out]
        return what, problem or (f"left beside it: {left}" if left else None)
