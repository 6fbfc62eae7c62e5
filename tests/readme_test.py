#!/usr/bin/env python3
"""Runs the commands of README.md and docs/*.md, so that they stay true.

A command is a line `$ ...` in a fenced block tagged sh (a backslash at the end
continues it); the other lines of the block are its output and are not compared.
The commands of a document run in order in one scratch folder, in which models/,
tests/ and scripts/ are the repository's and `mobe` is on the PATH. Each has a
shell of its own: files carry over, `cd` and variables do not. What a command
leaves running in the background (a server) ends with its document.

Runs a document with a failing and a slow command first, to see that they would
be noticed; with --self-test, only that.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = Path(os.environ.get("MOBE", REPOSITORY / "build/release/mobe"))
SECONDS = 120

# Commands that are not run, by their first words: what gets and builds the very
# checkout that is being tested.
EXEMPT = re.compile(r"(git clone|cd mobe|make|(sudo )?apt-get)\b")

BLOCK = re.compile(r"^```sh[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)$", re.MULTILINE)


def commands_of(text):
    found = [c for block in BLOCK.findall(text) for c in COMMAND.findall(block)]
    return [command for command in found if not EXEMPT.match(command)]


def run(command, folder, seconds):
    """Starts the command in a session of its own. Returns the session's id and
    what went wrong, if anything."""
    environment = dict(os.environ, PATH=f"{PROGRAM.parent}:{os.environ['PATH']}")
    # Files, not pipes: a pipe would stay open for as long as a server runs.
    with tempfile.TemporaryFile("w+") as output:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
        )
        try:
            code = shell.wait(seconds)
            problem = f"exit code {code}" if code else None
        except subprocess.TimeoutExpired:
            end(shell.pid)
            shell.wait()
            problem = f"still running after {seconds} s"
        output.seek(0)
        return shell.pid, problem and f"{problem}\n{output.read()}".rstrip()


def end(session):
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        pass  # left nothing running


def problems_of(name, text, seconds=SECONDS):
    """Runs the commands of a document. A failed one does not stop the next."""
    problems = []
    sessions = []
    with tempfile.TemporaryDirectory(prefix="mobe_readme_") as folder:
        for shown in ("models", "tests", "scripts"):
            os.symlink(REPOSITORY / shown, Path(folder, shown))
        try:
            for command in commands_of(text):
                session, problem = run(command, folder, seconds)
                sessions.append(session)
                if problem:
                    problems.append(f"{name}: $ {command}\n{problem}")
        finally:
            for session in sessions:
                end(session)
    return problems


def self_test():
    text = """
```sh
$ echo one \\
    two >carried
output
$ grep -q 'one two' carried
$ ls no_such_file
$ sleep 100
$ sleep 100 &
$ make no_such_target
```
```text
$ false
```
"""
    problems = problems_of("self-test", text, seconds=2)
    expected = ("ls no_such_file\nexit code 2\nls: ", "sleep 100\nstill running")
    if len(problems) == len(expected) and all(map(str.__contains__, problems, expected)):
        return []
    return ["self-test: expected a failure of ls and of sleep, found:", *problems]


def main():
    problems = self_test()
    count = 0
    if sys.argv[1:] != ["--self-test"]:
        for path in [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/*.md"))]:
            text = path.read_text()
            count += len(commands_of(text))
            problems += problems_of(path.relative_to(REPOSITORY), text)
        if count == 0:
            problems.append("README.md and docs/*.md have no command to run")
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"readme: {count} commands run, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
