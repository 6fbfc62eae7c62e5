#!/usr/bin/env python3
"""The paper's table: what each way to make a model smaller costs in its tasks, at the
same bytes. Compresses a model by MoBE (with and without a text) and by each baseline,
evaluates all on the same items, and prints the table in Markdown.

Usage: bench/paper_table.py MODEL DATA [--limit N] [--ratio R] [--passes N]
DATA is a folder of files as TASKS names them; what is not there is left out."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MOBE = os.environ.get("MOBE", str(REPOSITORY / "build/release/mobe"))

# Task -> its file in DATA.
TASKS = {
    "wikitext2": "wikitext-2/raw/wiki.test.raw",
    "c4": "c4/exllamav2_c4.utf8",
    "ptb": "ptb/ptb.test.txt",
    "arc_easy": "commonsense/ARC-Easy/test.json",
    "arc_challenge": "commonsense/ARC-Challenge/test.json",
    "boolq": "commonsense/boolq/test.json",
    "hellaswag": "commonsense/hellaswag/val_sample1000.jsonl",
    "openbookqa": "commonsense/openbookqa/test.json",
    "piqa": "commonsense/piqa/test.json",
    "siqa": "commonsense/social_i_qa/test.json",
    "winogrande": "commonsense/winogrande/test.json",
    "intent": "intent/clinc150_data_small.json",
    "gsm8k": "gsm8k/test.jsonl",
}
SHOTS = {"gsm8k": "gsm8k/train.jsonl"}
CALIBRATION = "wikitext-2/tokenized/valid.txt"
# Name -> options of compress. Each keeps the same share of the expert weights.
VARIANTS = {
    "MoBE": [],
    "MoBE, calibrated": ["--calibrate", "{calibration}"],
    "SVD": ["--method", "svd"],
    "MoLAE": ["--method", "molae"],
    "D2-MoE": ["--method", "d2moe", "--calibrate", "{calibration}"],
}


def mobe(*arguments):
    done = subprocess.run(
        [MOBE, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"paper_table: mobe {arguments[0]}: {done.stderr}")
    return done.stdout


def evaluate(model, data, limit):
    """Metric of a task -> its value and standard error."""
    results = {}
    for task, file in TASKS.items():
        if not (data / file).exists():
            continue
        shots = ["--shots-file", data / SHOTS[task]] if task in SHOTS else []
        printed = mobe(
            "eval", model, "--tasks", task, "--data", data / file, *shots,
            "--limit", limit, "--json", "--quiet",
        )  # fmt: skip
        for row in json.loads(printed)["results"]:
            results[task, row["metric"]] = row["value"], row["value_stderr"]
    return results


def cell(value, error):
    digits = 1 if value > 10 else 3
    return f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--ratio", default="0.75")
    parser.add_argument("--passes", default="500")
    options = parser.parse_args()
    columns = {"original": evaluate(options.model, options.data, options.limit)}
    with tempfile.TemporaryDirectory() as folder:
        for name, extra in VARIANTS.items():
            out = Path(folder) / "out"
            extra = [
                e.format(calibration=options.data / CALIBRATION) for e in extra
            ]
            passes = [] if "--method" in extra else ["--passes", options.passes]
            mobe(
                "compress", options.model, out, "--ratio", options.ratio, *passes,
                *extra, "--quiet",
            )  # fmt: skip
            columns[name] = evaluate(out, options.data, options.limit)
            subprocess.run(["rm", "-rf", out], check=True)
    print("| | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    kept = ["100%", *[f"{float(options.ratio):.0%}" for _ in VARIANTS]]
    print("| expert weights kept | " + " | ".join(kept) + " |")
    for task, metric in columns["original"]:
        cells = (cell(*column[task, metric]) for column in columns.values())
        print(f"| {task} {metric} | " + " | ".join(cells) + " |")


main()
