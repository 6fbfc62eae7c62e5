"""`mobe compress --device`: PyTorch's kernels in place of mobe's own."""

import json
import signal
import subprocess
import time

import pytest

RECIPE = ["--bases", "8", "--layers", "2-3"]
TORCH = ["--device", "torch-cpu"]


@pytest.fixture(scope="module")
def model(mobe_program, models, tmp_path_factory):
    """The bundled one, where the program has the module for PyTorch beside it."""
    folder = models / "mini-qwen3-moe"
    out = tmp_path_factory.mktemp("probe") / "out"
    done = subprocess.run(
        [mobe_program, "compress", folder, out, "--dry-run", "--passes", "1", *TORCH],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode != 0:
        assert "built without PyTorch" in done.stderr
        pytest.skip("built without PyTorch")
    assert "fits on: torch-cpu (PyTorch " in done.stdout
    return folder


def test_fits_as_the_cpu_does(mobe, model, tmp_path):
    """Several matrices at a time; the errors are the CPU's, and the file tells on what."""
    errors = {}
    for device in ("torch-cpu", "cpu"):
        out, trace = tmp_path / device, tmp_path / f"{device}.csv"
        report = mobe(
            *("compress", model, out, *RECIPE, "--passes", 20, "--json"),
            *("--device", device, "--trace", trace),
        )
        errors[device] = [m["relative"] for m in report["matrices"]]
        assert len(trace.read_text().splitlines()) == 1 + 4 * 20
        mobe("verify", out)
    assert errors["torch-cpu"] == pytest.approx(errors["cpu"], rel=0.01)
    assert len(errors["cpu"]) == 4
    recipe = json.loads((tmp_path / "torch-cpu" / "recipe.json").read_text())
    assert recipe["kernels"][0].startswith("torch-cpu (PyTorch ")


def test_goes_on_with_the_device_that_it_was_begun_with(mobe, mobe_program, model, tmp_path):
    out = tmp_path / "out"
    command = ["compress", model, out, *RECIPE, "--passes", 120]
    process = subprocess.Popen(
        [str(part) for part in (mobe_program, *command, *TORCH)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = out / ".mobe"
    while process.poll() is None and not list(journal.glob("layer-*.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "run the same command to continue" in said
    finished = len(list(journal.glob("layer-*.json")))
    assert 1 <= finished < 4
    said = mobe(*command, "--device", "cpu", code=1)
    assert "holds a job begun with another option (device: " in said
    report = mobe(*command, *TORCH, "--json")
    assert report["resumed"] == finished
    mobe("verify", out)


@pytest.mark.parametrize(
    "options, said",
    [
        (["--device", "gpu"], "expected cpu, cuda, cuda:1, cuda:all or auto"),
        ([*TORCH, "--solver", "reference"], "goes with --solver fast"),
        ([*TORCH, "--method", "svd"], "go with --method mobe"),
    ],
)
def test_refuses_in_one_line(mobe, model, tmp_path, options, said):
    error = mobe("compress", model, tmp_path / "out", *RECIPE, *options, code=1)
    assert said in error
    assert error.count("\n") == 1
