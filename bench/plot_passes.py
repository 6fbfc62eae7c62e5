#!/usr/bin/env python3
"""Draws docs/fit_passes.svg: error against passes, of fits of different lengths
and of the published algorithm, on the gate and up of layer 2 of the bundled model.

    python3 bench/plot_passes.py docs/fit_passes.svg

Needs matplotlib. Takes some minutes, most of them for the published algorithm.
"""

import csv
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("MOBE", REPOSITORY / "build/release/mobe")
MODEL = REPOSITORY / "models/mini-qwen3-moe"
CURVES = [
    ("published algorithm", "reference", 10000),
    ("fast, 100 passes", "fast", 100),
    ("fast, 300 passes", "fast", 300),
    ("fast, 1000 passes", "fast", 1000),
    ("fast, 3000 passes", "fast", 3000),
]


def mean_errors(solver, passes):
    """The mean scaled MSE of the two matrices after each pass, the best so far."""
    with tempfile.TemporaryDirectory(prefix="mobe_plot_") as folder:
        trace = Path(folder, "trace.csv")
        command = [PROGRAM, "compress", MODEL, Path(folder, "out"), "--quiet"]
        command += ["--layers", 2, "--bases", 8, "--solver", solver]
        command += ["--passes", passes, "--trace", trace]
        subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)
        errors = defaultdict(list)
        with open(trace, newline="") as file:
            for row in csv.DictReader(file):
                errors[row["matrix"]].append(float(row["mse_scaled"]))
    means = [sum(values) / len(values) for values in zip(*errors.values())]
    for i in range(1, len(means)):
        means[i] = min(means[i], means[i - 1])
    return means


def main():
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for label, solver, passes in CURVES:
        errors = mean_errors(solver, passes)
        style = "--" if solver == "reference" else "-"
        axes.plot(range(1, len(errors) + 1), errors, style, label=label)
    axes.set(xscale="log", xlabel="passes", ylabel="scaled MSE", ylim=(0.02, 0.06))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    # No date and no random ids: the file changes only when the curves do.
    matplotlib.rcParams["svg.hashsalt"] = "mobe"
    figure.savefig(sys.argv[1], metadata={"Date": None})


if __name__ == "__main__":
    main()
