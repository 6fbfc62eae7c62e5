"""Fixtures of the tests that compare mobe with the Python libraries."""

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parents[2]

# Everything is on this disk; nothing may be looked for on a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

# Where transformers copies the code that models bring along: one for each process.
modules_cache = tempfile.TemporaryDirectory(prefix="mobe_modules_")
os.environ["HF_MODULES_CACHE"] = modules_cache.name

# A shell that starts the tests in the background has them ignore Ctrl-C, and what
# they start would inherit that. A handler is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The tensors are too small to be worth sharing among threads.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mobe_program():
    return os.environ.get("MOBE", REPOSITORY / "build/release/mobe")


@pytest.fixture(scope="session")
def mobe(mobe_program):
    """Runs `mobe args...` and checks the exit code. Gives what it printed: stdout,
    parsed where --json is among the arguments; stderr where it should fail."""

    def run(*args, code=0, stdin="", timeout=300):
        command = [str(part) for part in (mobe_program, *args)]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == code, (
            f"{' '.join(command)}: exit code {done.returncode}, expected {code}\n"
            f"{done.stdout}{done.stderr}"
        )
        if code != 0:
            return done.stderr
        return json.loads(done.stdout) if "--json" in args else done.stdout

    return run


@pytest.fixture(scope="session")
def models():
    """The folder of the bundled model."""
    return REPOSITORY / "models"


@pytest.fixture(scope="session")
def data():
    """The folder of the committed test data."""
    return REPOSITORY / "tests/data"


@pytest.fixture
def mobe_logits(mobe, tmp_path):
    """Gives `mobe logits` of a model folder for ids [b, s], as a tensor."""

    def run(folder, ids, *options):
        ids_file, out = tmp_path / "ids.json", tmp_path / "logits.safetensors"
        ids_file.write_text(json.dumps(ids.tolist()))
        mobe("logits", folder, "--ids", ids_file, "--out", out, *options)
        return load_file(out)["logits"]

    return run


@pytest.fixture(scope="session")
def shared():
    """The fixtures and data beside the repository, where they are."""
    folder = Path(os.environ.get("MOBE_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; MOBE_SHARED names another")
    return folder


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window; one for all tests, as it takes seconds to start."""
    from page_driver import start_browser

    driver = start_browser()
    yield driver
    driver.quit()
