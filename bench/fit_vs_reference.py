#!/usr/bin/env python3
"""The fast solver of `mobe compress` against the published algorithm in torch, on
the gate and up matrices of some layers.

Measures how much sooner mobe reaches the error at which the published algorithm
ends, and how far its error is from that after a tenth of the time. Both get as many
threads and take turns, so that both see the same noise. On a busy machine take
--threads 1: threads that wait for one another are slowed down by ten times, not
by their share, and torch's more than mobe's.

With --text both finished models are compared with the original on it, too: the
published factors of its best state, looked at every 200 passes as in its script,
are written in the native format, in bfloat16, and mobe runs both. That needs all
layers to mean anything.

Times: of torch, reading the weights, the SVDs and the passes, without starting
Python; of mobe, the whole program up to its last pass. Errors are mean squared
errors of W / std, their mean over the matrices: of torch, the best of all passes
with its factors in float32; of mobe, that of the factors as stored, in bfloat16.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAM = os.environ.get("MOBE", REPOSITORY / "build/release/mobe")
BUDGETS = "300,500,700,1000,1250,1500,2000"
KEEP_EVERY = 200
ACTIVATIONS = {"silu": torch.nn.functional.silu, "tanh": torch.tanh}


def read_experts(folder, layer, kind):
    """Every expert's matrix of a layer and kind, [experts, rows, cols]."""
    prefix = f"model.layers.{layer}.mlp.experts."
    found = {}
    for shard in folder.glob("*.safetensors"):
        with safe_open(shard, "pt") as file:
            for name in file.keys():
                if name.startswith(prefix) and name.endswith(f".{kind}_proj.weight"):
                    expert = int(name.removeprefix(prefix).split(".")[0])
                    found[expert] = file.get_tensor(name)
    return torch.stack([found[expert] for expert in sorted(found)])


class Published:
    """The algorithm of arXiv 2508.05257 as published: Adam at rate 0.07 on A, bases
    and softmax logits together, every expert in each pass, from the SVDs of groups
    of experts. Less than its script does: no other losses are computed and no best
    state is copied, so it is timed at its best."""

    def __init__(self, folder, layer, kind, num_bases, activation):
        start = time.monotonic()
        weights = read_experts(folder, layer, kind).half()
        experts, rows, cols = weights.shape
        self.activation = ACTIVATIONS[activation]
        self.layer, self.kind = layer, kind
        self.std = weights.std().float()
        self.target = (weights / weights.std()).float()
        a, bases = [], []
        for group in weights.float().chunk(num_bases):
            u, s, v = torch.linalg.svd(group.reshape(-1, cols), full_matrices=False)
            a.append((u * s)[:, :rows].reshape(len(group), rows, rows))
            bases.append(v[:rows])
        logits = torch.eye(num_bases).repeat_interleave(experts // num_bases, 0)
        self.a = torch.cat(a).requires_grad_()
        self.bases = torch.stack(bases).requires_grad_()
        self.logits = logits.requires_grad_()
        self.adam = torch.optim.Adam([self.a, self.bases, self.logits], lr=0.07)
        self.best = self.best_kept = float("inf")
        self.passes = 0
        self.seconds = time.monotonic() - start

    def run(self, passes):
        """Seconds of so many passes more."""
        start = time.monotonic()
        for _ in range(passes):
            mixed = torch.tensordot(self.logits.softmax(1), self.bases, 1)
            product = self.a @ self.activation(mixed)
            loss = torch.nn.functional.mse_loss(product, self.target)
            self.best = min(self.best, loss.item())
            self.passes += 1
            if self.passes % KEEP_EVERY == 0 and loss.item() < self.best_kept:
                self.best_kept = loss.item()
                self.kept = self.factors()
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()
        seconds = time.monotonic() - start
        self.seconds += seconds
        return seconds


    def factors(self):
        """By the names of the native format, as copies."""
        prefix = f"model.layers.{self.layer}.mlp"
        named = {
            f"{prefix}.B_{self.kind}": self.bases,
            f"{prefix}.W_{self.kind}": self.logits.softmax(1),
        }
        for expert, a in enumerate(self.a):
            named[f"{prefix}.experts.{expert}.{self.kind}_proj.weight"] = a * self.std
        return {name: t.detach().bfloat16() for name, t in named.items()}


def replace_tensors(folder, tensors):
    """Puts these in the place of those of the same names."""
    for shard in folder.glob("*.safetensors"):
        all_tensors = load_file(shard)
        for name in all_tensors.keys() & tensors.keys():
            assert all_tensors[name].shape == tensors[name].shape, name
            all_tensors[name] = tensors[name]
        save_file(all_tensors, shard)


def divergence(arguments, out):
    command = [PROGRAM, "compare", arguments.model, out, arguments.text, "--json"]
    command += ["--max-tokens", 16384, "--context", 512, "--quiet"]
    done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)["kld_mean"]


def run_mobe(arguments, passes, then=None):
    """Seconds and error of a fit of that many passes; then(folder) of the result."""
    with tempfile.TemporaryDirectory(prefix="mobe_bench_") as folder:
        trace, out = Path(folder, "trace.csv"), Path(folder, "out")
        command = [PROGRAM, "compress", arguments.model, out]
        command += ["--layers", arguments.layers, "--bases", arguments.bases]
        command += ["--activation", arguments.activation, "--budget", passes]
        command += ["--threads", arguments.threads, "--trace", trace]
        command += ["--json", "--quiet"]
        done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE)
        with open(trace, newline="") as file:
            rows = list(csv.DictReader(file))
        if then:
            then(out)
    report = json.loads(done.stdout)
    assert len(rows) == passes * len(report["matrices"])
    return float(rows[-1]["seconds"]), report["mse_scaled_mean"]


def measure(arguments):
    torch.set_num_threads(arguments.threads)
    first, _, last = arguments.layers.partition("-")
    layers = range(int(first), int(last or first) + 1)
    published = [
        Published(arguments.model, layer, kind, arguments.bases, arguments.activation)
        for layer in layers
        for kind in ("gate", "up")
    ]
    scan = {}
    speeds = []  # mobe's passes in the time of one published one, by turn
    kl = {}

    def compare(out):
        kl["mobe"] = divergence(arguments, out)
        factors = {n: t for matrix in published for n, t in matrix.kept.items()}
        replace_tensors(out, factors)
        kl["reference"] = divergence(arguments, out)

    turns = len(arguments.budgets)
    for turn, budget in enumerate(arguments.budgets, 1):
        done = arguments.passes * (turn - 1) // turns
        passes = arguments.passes * turn // turns - done
        published_seconds = sum(matrix.run(passes) for matrix in published)
        last = compare if arguments.text and turn == turns else None
        scan[budget] = run_mobe(arguments, budget, last)
        speeds.append(published_seconds / passes / (scan[budget][0] / budget))
    seconds = sum(matrix.seconds for matrix in published)
    best = statistics.mean(matrix.best for matrix in published)
    reached = [b for b, (_, error) in scan.items() if error <= best]
    # Sized by neighbours in time: the machine may be quieter now than it was.
    tenth = max(int(arguments.passes / 10 * statistics.median(speeds)), 1)
    tenth_seconds, tenth_error = run_mobe(arguments, tenth)
    return {
        "reference": {
            "passes": arguments.passes,
            "seconds": seconds,
            "error": best,
        },
        "mobe": [
            {"passes": b, "seconds": mobe_seconds, "error": error}
            for b, (mobe_seconds, error) in scan.items()
        ],
        "mobe_in_a_tenth": {
            "passes": tenth,
            "seconds": tenth_seconds,
            "error": tenth_error,
        },
        # None: no budget of the scan was enough.
        "speedup_at_reference_error": (
            seconds / scan[reached[0]][0] if reached else None
        ),
        "error_ratio": tenth_error / best,
        # With --text, of mobe's largest budget.
        **({"kl": kl, "kl_ratio": kl["mobe"] / kl["reference"]} if kl else {}),
    }


def print_table(result):
    print("solver     passes   seconds     error")
    rows = [("published", result["reference"])]
    rows += [("mobe", row) for row in result["mobe"]]
    rows += [("mobe, 1/10", result["mobe_in_a_tenth"])]
    for name, row in rows:
        print(f"{name:10} {row['passes']:6} {row['seconds']:9.2f} {row['error']:9.5f}")
    speedup = result["speedup_at_reference_error"]
    reached = "not reached" if speedup is None else f"{speedup:.1f} times sooner"
    print(f"the published algorithm's error: {reached}")
    print(f"error in a tenth of its time: {result['error_ratio']:.3f} of its error")
    if "kl" in result:
        ours, published = result["kl"]["mobe"], result["kl"]["reference"]
        print(f"KL divergence: {ours:.6f} against {published:.6f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--model", type=Path, default=REPOSITORY / "models/mini-qwen3-moe")
    add("--layers", default="2", help="as 2 or 0-5")
    add("--bases", type=int, default=8, help="must divide the number of experts")
    add("--activation", choices=ACTIVATIONS, default="silu")
    add("--passes", type=int, default=4000, help="of the published algorithm")
    add("--budgets", default=BUDGETS, help="passes of mobe, ascending")
    add("--text", type=Path, help="to compare the models on, with --layers of all")
    add("--threads", type=int, default=2)
    add("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    arguments.budgets = [int(budget) for budget in arguments.budgets.split(",")]
    least = KEEP_EVERY if arguments.text else len(arguments.budgets)
    if arguments.passes < least:
        parser.error(f"--passes: expected {least} or more")
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print_table(result)


if __name__ == "__main__":
    main()
