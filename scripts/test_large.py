#!/usr/bin/env python3
"""One layer of each published model at full width, random weights: makes the
checkpoint, compresses it, verifies the result and runs both. Fails where a step does,
where one takes more than 20 GiB, and where all take more than 25 minutes.

    build/venv/bin/python scripts/test_large.py [MODEL...] [--folder DIR]

Prints what docs/benchmarks.md has under "Full-width layers". Gate and up have one
shape, so only the gate is factored, to save time (--kinds gate,up factors both).
"""

import argparse
import csv
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy
from fit_cost import fit_operations, pass_operations
from model_shapes import MODELS, family_of, make_config, tensors_of
from plan_cluster import sizes
from safetensors.numpy import load_file

SCRIPTS = Path(__file__).resolve().parent
PROGRAM = os.environ.get("MOBE", SCRIPTS.parent / "build/release/mobe")
MOST_BYTES = 20 * 2**30
MOST_SECONDS = 25 * 60
PASSES = 2  # the time of one lies between them
TOKENS = 32
WHOLE_PASSES = 500  # the default of mobe compress


class Case(NamedTuple):
    model: str
    whole_bases: int  # of a layer, in the published setting (arXiv 2508.05257) or the rule's
    experts: int  # of the layer here
    activation: str = "silu"
    groups: int = 1  # of experts, with bases of their own
    kinds: str = "gate"

    def bases(self):
        """In proportion to the experts, as many for each group."""
        whole = experts_of(make_config(self.model))
        return self.whole_bases * self.experts // whole // self.groups * self.groups


CASES = [
    Case("Qwen3-30B-A3B", 32, 128),
    Case("Qwen3-235B-A22B", 32, 128),
    Case("DeepSeek-V3", 64, 32, "tanh"),
    Case("Kimi-K2", 128, 32, groups=2),
    Case("DeepSeek-V2-Lite", 4, 64),
    Case("Ling-Lite", 4, 64),
    # In settings of the rule (docs/presets.md).
    Case("Qwen3-Next-80B-A3B", 193, 128),
    Case("GLM-4.5-Air", 36, 32),
    Case("MiniMax-M2", 32, 32),
]


def experts_of(config):
    return config[family_of(config).experts]


class Step(NamedTuple):
    seconds: float
    peak_bytes: int  # resident, mapped pages included
    output: str


class Row(NamedTuple):
    case: Case
    config: dict
    bytes_in: int
    bytes_out: int
    pass_seconds: float
    compress: Step
    verify: Step
    forwards: list[Step]  # of the original, of the compressed model
    divergence: float

    def shape(self):
        """Experts, rows, columns and bases of one fit."""
        groups = self.case.groups
        p, d = self.config[family_of(self.config).expert_size], self.config["hidden_size"]
        return self.case.experts // groups, p, d, self.case.bases() // groups

    def flops(self):
        return self.case.groups * pass_operations(*self.shape()) / self.pass_seconds


def parameters_of(config):
    return sum(math.prod(tensor.shape) for tensor in tensors_of(config))


def run(*command):
    """Runs it to its end. A failure ends the test."""
    words = [str(word) for word in command]
    start = time.monotonic()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    step = Step(time.monotonic() - start, usage.ru_maxrss * 1024, output)
    what = f"{step.seconds:6.1f} s  {step.peak_bytes / 1e9:5.2f} GB  "
    print(f"  {what}{Path(words[1]).stem}", file=sys.stderr)
    if process.returncode != 0:
        sys.exit(f"test_large: exit code {process.returncode}: {' '.join(words)}")
    if step.peak_bytes > MOST_BYTES:
        sys.exit(f"test_large: more than 20 GiB: {' '.join(words)}")
    return step


def check_disk(folder, case, config):
    """Both checkpoints in bfloat16, and factors that wait to be put into the second."""
    need = 5 * parameters_of(config)
    free = shutil.disk_usage(folder).free
    if free < need:
        sys.exit(
            f"test_large: {case.model} needs {need / 1e9:.0f} GB in {folder}, which "
            f"has {free / 1e9:.0f} GB free; --folder names another"
        )


def seconds_of_pass(trace, kinds):
    """Of a kind, from each pass to the next. Passes are counted on over the groups, but
    between the last of one and the first of the next lies more than a pass."""
    total, before, time_before = 0.0, 0, 0.0
    with open(trace, newline="") as file:
        for row in csv.DictReader(file):
            this, now = int(row["pass"]), float(row["seconds"])
            if before % PASSES != 0:
                total += now - time_before
            before, time_before = this, now
    return total / (PASSES - 1) / len(kinds.split(","))


def log_probabilities(file):
    logits = load_file(file)["logits"].astype(numpy.float64)
    if not numpy.isfinite(logits).all():
        sys.exit(f"test_large: {file}: logits that are not finite")
    logits -= logits.max(-1, keepdims=True)
    return logits - numpy.log(numpy.exp(logits).sum(-1, keepdims=True))


def divergence(base, other):
    """Mean over the tokens of KL(base || other), in nats."""
    p, q = log_probabilities(base), log_probabilities(other)
    return float((numpy.exp(p) * (p - q)).sum(-1).mean())


def size_of(folder):
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def run_case(case, folder):
    options = {"experts": case.experts, "layers": 1, "dense_layers": 0}
    config = make_config(case.model, **options)
    check_disk(folder, case, config)
    model, out, trace = folder / "model", folder / "out", folder / "trace.csv"
    ids = folder / "ids.json"
    words = random.Random(0)
    tokens = [words.randrange(config["vocab_size"]) for _ in range(TOKENS)]
    ids.write_text(json.dumps(tokens))

    print(case.model, file=sys.stderr)
    make = [sys.executable, SCRIPTS / "make_checkpoint.py", case.model, model]
    for name, value in options.items():
        make += [f"--{name.replace('_', '-')}", value]
    run(*make)
    command = [PROGRAM, "compress", model, out, "--quiet", "--trace", trace]
    command += ["--bases", case.bases(), "--activation", case.activation]
    command += ["--kinds", case.kinds, "--passes", PASSES]
    if case.groups > 1:
        command += ["--groups", case.groups]
    compress = run(*command)
    verify = run(PROGRAM, "verify", out, "--against", model, "--quiet")
    forwards, logits = [], []
    for one in (model, out):
        logits.append(folder / f"{one.name}.logits.safetensors")
        command = [PROGRAM, "logits", one, "--ids", ids, "--out", logits[-1], "--quiet"]
        # Building experts for so few tokens would take longer than all else.
        forwards.append(run(*command, "--experts", "fused"))
    return Row(
        case,
        config,
        size_of(model),
        size_of(out),
        seconds_of_pass(trace, case.kinds),
        compress,
        verify,
        forwards,
        divergence(*logits),
    )


def print_layers(rows):
    print("| layer of | experts, bases | kinds | GB | compress | a pass | GFLOP/s |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        case, step = row.case, row.compress
        bases = f"{case.bases()}" + (f" in {case.groups}" if case.groups > 1 else "")
        print(
            f"| {case.model} | {case.experts}, {bases} | {case.kinds} "
            f"| {row.bytes_in / 1e9:.1f} to {row.bytes_out / 1e9:.1f} "
            f"| {step.seconds:.0f} s, {step.peak_bytes / 1e9:.1f} GB "
            f"| {row.pass_seconds:.1f} s | {row.flops() / 1e9:.0f} |"
        )
    print()
    print(f"| {TOKENS} tokens of | verify | original | compressed | KL |")
    print("|---|---|---|---|---|")
    for row in rows:
        steps = [
            f"{step.seconds:.0f} s, {step.peak_bytes / 1e9:.1f} GB"
            for step in (row.verify, *row.forwards)
        ]
        print(f"| {row.case.model} | {' | '.join(steps)} | {row.divergence:.2g} |")


def print_whole(rows):
    """What the models take, from their shapes and the operations a second of their
    layer: fits of all layers one after the other, memory of one fit."""
    print(f"| {WHOLE_PASSES} passes of | fits | a pass | all | memory | GB |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        case, config = row.case, make_config(row.case.model)
        _, p, d, _ = row.shape()
        experts, bases = experts_of(config), case.whole_bases
        n, m = experts // case.groups, bases // case.groups
        layers = config["num_hidden_layers"] - config.get("first_k_dense_replace", 0)
        fits = layers * 2 * case.groups
        one = pass_operations(n, p, d, m) / row.flops()
        seconds = fits * fit_operations(n, p, d, m, WHOLE_PASSES) / row.flops()
        parameters = parameters_of(config)
        stored = 1 if "quantization_config" in config else 2
        shape = {"n": experts, "p": p, "d": d, "m": bases, "groups": case.groups}
        shape |= {"layers": layers, "total": parameters, "stored": stored}
        size = sizes(shape, os.cpu_count())
        print(
            f"| {case.model} | {fits}, each of {n} experts, {m} bases | {one:.0f} s "
            f"| {seconds / 86400:.1f} days | {size['memory'] / 1e9:.0f} GB "
            f"| {size['model'] / 1e9:.0f} to {size['out'] / 1e9:.0f} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--folder", help="for the checkpoints; default: the system's")
    parser.add_argument("--kinds", help="matrices to factor, as gate,up")
    arguments = parser.parse_args()
    for model in arguments.models:
        if model not in MODELS:
            parser.error(f"{model}: expected some of {', '.join(MODELS)}")

    # Ended as an error is, so that the checkpoints are deleted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("test_large: stopped"))
    start, rows = time.monotonic(), []
    for case in CASES:
        if arguments.models and case.model not in arguments.models:
            continue
        if arguments.kinds:
            case = case._replace(kinds=arguments.kinds)
        prefix = "mobe_large_"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=arguments.folder) as folder:
            rows.append(run_case(case, Path(folder)))
    seconds = time.monotonic() - start
    print_layers(rows)
    print()
    print_whole(rows)
    print(f"\ntest-large: {len(rows)} models in {seconds / 60:.1f} minutes")
    if seconds > MOST_SECONDS:
        sys.exit("test_large: more than 25 minutes")


if __name__ == "__main__":
    main()
