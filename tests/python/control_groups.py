"""Control groups (version 1) for a test's processes."""

import contextlib
import os
import time

import pytest


def _folder(controller):
    """A new group below this process' own, or below the root."""
    mine = None
    with open("/proc/self/cgroup") as lines:
        for line in lines:
            _, controllers, path = line.strip().split(":", 2)
            if controller in controllers.split(","):
                mine = path
    for parent in (f"/sys/fs/cgroup/{controller}{mine}", f"/sys/fs/cgroup/{controller}"):
        if mine is not None and os.path.isdir(parent):
            folder = f"{parent}/mobe_test_{os.getpid()}"
            with contextlib.suppress(OSError):
                os.mkdir(folder)
                return folder
    pytest.skip(f"no control group of version 1 for {controller} may be made here")


class Group:
    def __init__(self, controller):
        self.controller = controller
        self.folder = _folder(controller)

    def set(self, name, value):
        with open(f"{self.folder}/{self.controller}.{name}", "w") as file:
            file.write(str(value))

    def get(self, name):
        with open(f"{self.folder}/{self.controller}.{name}") as file:
            return file.read()

    def join(self):
        """Puts the process that calls it into the group: a preexec_fn."""
        with open(f"{self.folder}/cgroup.procs", "w") as file:
            file.write("0")


@contextlib.contextmanager
def control_group(controller, **settings):
    group = Group(controller)
    try:
        for name, value in settings.items():
            group.set(name, value)
        yield group
    finally:
        for _ in range(100):  # the last process may not be gone
            with contextlib.suppress(OSError):
                os.rmdir(group.folder)
                break
            time.sleep(0.02)
