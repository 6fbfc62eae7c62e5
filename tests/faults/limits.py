"""The program in less memory, with fewer processes and less time of the processors than
it would like: the right result, or one line and exit code 1; no hang, no kill."""

import contextlib
import itertools
import json
import os
import resource
import time
from pathlib import Path

from common import JOBS, Skipped, contents, difference, pick, run

MB = 10**6
USER = 61234  # of nobody
COMMANDS = {
    "compress": JOBS["compress"],
    "dry run": "compress {model} {out} --passes 3 --dry-run --json",
    "svd": JOBS["svd"],
    "reconstruct": JOBS["reconstruct"],
    # Exactly: with less memory experts may run otherwise, which rounds otherwise.
    "generate": "generate {factored} --prompt castle --max-tokens 4 --json "
    "--dtype float32 --built-format f32",
    "perplexity": "perplexity {factored} {text} --json",
    "verify": "verify {factored} --against {model} --json",
}
VALUES = {
    "address space": [
        n * MB
        for n in (
            100,
            150,
            200,
            250,
            300,
            350,
            400,
            450,
            500,
            550,
            600,
            700,
            800,
            1000,
            1200,
            1500,
            2000,
            3000,
            4000,
        )
    ],
    "memory": [
        n * MB for n in (32, 36, 40, 44, 48, 56, 64, 80, 96, 128, 256, 512, 1000)
    ],
    "pids": [1, 2, 3, 4, 6, 8, 16, 32, 64],
    "processes of a user": [1, 2, 3, 4, 6, 8, 16, 32, 64],
    "processors": [1],
}
CASES = [
    (l, v, c)
    for l, values in VALUES.items()
    for v, c in itertools.product(values, COMMANDS)
]
COUNT = len(CASES)


def attempt(world, rng, seed, number):
    limit, value, name = pick(CASES, seed, number)
    threads = rng.choice((None, None, 1, 16))
    with world.scratch() as folder:
        command = world.command(COMMANDS[name], folder / "out", threads)
        with LIMITS[limit](value) as options:
            ended = run(command, **options)
        what = f"`mobe {command}` with {limit} of {value}"
        # Too little to load the libraries: the loader says so, before the program runs.
        if ended.code == 127 and "shared libraries" in ended.err:
            return what, None
        if ended.code != 0 or ended.problem():
            return what, ended.problem()
        if name in JOBS:
            return what, difference(contents(folder / "out"), world.expected(name))
        right = steady(run(world.command(COMMANDS[name], folder / "out")).out)
        if steady(ended.out) != right:
            return what, f"prints {steady(ended.out)}, expected {right}"
        return what, None


def steady(text):
    """What is printed without what is of the moment, and numbers as far as they are the
    same whichever way experts are run."""

    def keep(value):
        if isinstance(value, dict):
            moment = ("second", "memory", "peak", "free", "experts")
            return {
                k: keep(v) for k, v in value.items() if not any(m in k for m in moment)
            }
        if isinstance(value, list):
            return [keep(v) for v in value]
        return f"{value:.4g}" if isinstance(value, float) else value

    try:
        return keep(json.loads(text))
    except ValueError:
        return text


def address_space(value):
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (value, value))  # noqa: E731
    return contextlib.nullcontext({"preexec_fn": limit})


def processes(value):
    if os.geteuid() != 0:
        raise Skipped("another user's processes are root's to limit")
    options = {"user": USER, "group": USER, "extra_groups": []}
    try:
        run("--version", **options)
    except PermissionError as error:
        raise Skipped(f"another user may not run the program: {error}") from None
    limit = lambda: resource.setrlimit(
        resource.RLIMIT_NPROC, (value, value)
    )  # noqa: E731
    return contextlib.nullcontext({**options, "preexec_fn": limit})


def mount_of(controller):
    """The folder of the control groups that this process may have its own below, and the
    version, 1 or 2, of the hierarchy that has the controller."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ", 1)
        mount, (kind, _, options) = Path(before.split()[4]), after.split(" ", 2)
        version = {"cgroup": 1, "cgroup2": 2}.get(kind, 0)
        if version == 1 and controller in options.split(","):
            here = mount / own[controller].lstrip("/")
            return (here if here.is_dir() else mount), 1
        if (
            version == 2
            and controller in (mount / "cgroup.controllers").read_text().split()
        ):
            return mount, 2
    raise Skipped(f"no control groups with {controller}")


@contextlib.contextmanager
def group(controller, settings):
    """Options of a process in a control group of its own; `settings` are its files, by
    version."""
    parent, version = mount_of(controller)
    folder = parent / f"mobe_faults_{os.getpid()}"
    try:
        if version == 2:
            (parent / "cgroup.subtree_control").write_text(f"+{controller}")
        folder.mkdir(exist_ok=True)
        for name, value in settings[version].items():
            (folder / name).write_text(str(value))
    except OSError as error:
        raise Skipped(f"cannot make a control group: {error}") from None
    try:
        yield {"preexec_fn": lambda: (folder / "cgroup.procs").write_text("0")}
    finally:
        for _ in range(50):  # the last process may not be gone
            with contextlib.suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.02)


LIMITS = {
    "address space": address_space,
    "processes of a user": processes,
    "memory": lambda n: group(
        "memory",
        {1: {"memory.limit_in_bytes": n}, 2: {"memory.max": n, "memory.swap.max": 0}},
    ),
    "pids": lambda n: group("pids", dict.fromkeys((1, 2), {"pids.max": n})),
    "processors": lambda n: group(
        "cpu",
        {
            1: {"cpu.cfs_period_us": 100000, "cpu.cfs_quota_us": n * 100000},
            2: {"cpu.max": f"{n * 100000} 100000"},
        },
    ),
}
