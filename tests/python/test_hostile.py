"""Every hostile input through the program: it ends soon, within bounded memory,
with exit code 0 or 1 and, at 1, one line that names the input. What the line says
is checked by the unit tests (hostile_test.cc)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HOSTILE = REPOSITORY / "tests/data/hostile"
ENTRIES = json.loads((HOSTILE / "manifest.json").read_text())["entries"]
FILES = [e for e in ENTRIES if e["kind"] == "safetensors"]
CHECKPOINTS = [e for e in ENTRIES if e["kind"] == "checkpoint"]
SECONDS = 10
MEGABYTES = 300  # 20 with two threads; each has buffers of its own

# A process starts with the peak of the one that started it, and ours has torch
# loaded: this small one stands between.
MEASURE = """
import json, resource, subprocess, sys
seconds, *command = sys.argv[1:]
done = subprocess.run(command, capture_output=True, timeout=float(seconds))
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, done.stderr.decode(), usage.ru_maxrss / 1024]))
"""


def run(*args):
    """Runs mobe. Gives its exit code, after the checks that hold for every input,
    and its stderr."""
    program = os.environ.get("MOBE", REPOSITORY / "build/release/mobe")
    command = [sys.executable, "-I", "-S", "-c", MEASURE, SECONDS, program, *args]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code, errors, megabytes = json.loads(done.stdout)
    assert code in (0, 1), errors
    assert megabytes < MEGABYTES
    return code, errors


def check_error(errors, path):
    assert len(errors.splitlines()) == 1, errors
    assert str(path) in errors


def ids_of(entries):
    return [Path(entry["path"]).name for entry in entries]


def test_every_entry_is_covered():
    assert len(FILES) + len(CHECKPOINTS) == len(ENTRIES) == 81


@pytest.mark.parametrize("entry", CHECKPOINTS, ids=ids_of(CHECKPOINTS))
def test_inspect_checkpoint(entry):
    folder = HOSTILE / entry["path"]
    code, errors = run("inspect", folder)
    # "error, or loads ...": both are sound.
    if entry["expect"].startswith("error"):
        assert code == 1 or " or " in entry["expect"]
    else:
        assert code == 0, errors
    if code == 1:
        check_error(errors, folder)
    else:
        assert errors == ""


# As the weights of a folder that is otherwise sound. The valid ones fail too, but
# it is the folder that is wrong then: it lacks the model's tensors.
@pytest.mark.parametrize("entry", FILES, ids=ids_of(FILES))
def test_inspect_file(entry, tmp_path):
    shutil.copy(HOSTILE / "checkpoints/ok_control/config.json", tmp_path)
    weights = tmp_path / "model.safetensors"
    shutil.copy(HOSTILE / entry["path"], weights)
    code, errors = run("inspect", tmp_path)
    assert code == 1
    check_error(errors, tmp_path)
    assert (f"{weights}: " in errors) == (entry["expect"] != "ok")


@pytest.mark.parametrize("entry", CHECKPOINTS, ids=ids_of(CHECKPOINTS))
def test_run_checkpoint(entry, tmp_path):
    (tmp_path / "ids.txt").write_text("1 2 3 31\n")
    out = tmp_path / "logits.safetensors"
    folder = HOSTILE / entry["path"]
    code, errors = run("logits", folder, "--ids", tmp_path / "ids.txt", "--out", out)
    assert out.exists() == (code == 0)
    if code == 1:
        check_error(errors, folder)
