#!/usr/bin/env python3
"""These bytes, which form? Quantises a model's experts, as they are and factored, in
several splits of bits, and prints how far each one's predictions are from the original's,
by the share of the experts' bytes that is left, in Markdown. A row has a star where no
other one beats it in bytes and in the divergence on the first text.

Usage: bench/equal_bytes.py MODEL CALIBRATION TEXT [TEXT ...] [--max-tokens N] [--passes N]
       [--only REGEX] [--plot FILE.svg]
CALIBRATION is the text that roundings and fits are weighed by, each TEXT one on which the
divergence is measured. Beside them stand the other methods, quantised alike, and llama.cpp's
formats where bench/run_vs_llama.sh has built it. --only makes the rows whose names it finds
something in. --plot needs matplotlib."""

import argparse
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MOBE = os.environ.get("MOBE", str(REPOSITORY / "build/release/mobe"))
LLAMA = REPOSITORY / "build/llama/venv/bin/python"

# Shares for which quantize --bytes chooses by itself, with and without factors.
CHOSEN = [16, 18, 20, 22, 26, 30, 40, 50]
# Bits of gate and up, and of down.
PLAIN = [
    (2, 2), (2, 3), (2, 4), (2, 5), (3, 3), (3, 4), (3, 5), (4, 4), (4, 5), (5, 5), (6, 6),
    (8, 8),
]  # fmt: skip
# Bases of gate and up, and bits of A, of bases and of down.
FACTORED = [
    (16, 5, 5, 5), (8, 3, 3, 3), (8, 4, 3, 4), (8, 5, 4, 5),
    (4, 3, 3, 3), (4, 4, 3, 3), (4, 4, 3, 4), (4, 5, 4, 4), (4, 5, 4, 5), (4, 6, 5, 6),
    (3, 4, 3, 3), (3, 5, 4, 4), (3, 5, 4, 5),
]  # fmt: skip
# Bases of gate and up that stay in BF16, and the function behind them.
WHOLE = [(8, "identity"), (8, "silu")]
# Bases of those among which quantize --factored chooses.
MIXED = 3
# Of `compress --method`, which keep so much of the experts, in so many bits. They have no
# stored form: their plain model is quantised, and counted as if its factors had been.
METHODS = ["svd", "molae", "d2moe"]
UNCALIBRATED = ["molae"]
METHOD_SHARE = 0.75
METHOD_BITS = [3, 4, 5, 6, 8]
# llama.cpp's, with and without an importance matrix.
LLAMA_TYPES = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]


def run(command):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"equal_bytes: {' '.join(map(str, command[:2]))}: {done.stderr}")
    return done.stdout


def mobe(*arguments):
    output = run([MOBE, *arguments])
    return json.loads(output) if "--json" in arguments else None


def cells(found):
    return " | ".join(f"{kld:.6f} ± {error:.6f}" for kld, error in found)


class Forms:
    def __init__(self, args, folder):
        self.args, self.out, self.rows = args, folder / "out", []
        self.folder = folder
        self.original = mobe("inspect", args.model, "--json")
        self.expert_bytes = 2 * self.original["parameters"]["experts"]

    @functools.cache  # noqa: B019 (the object lives as long as the program)
    def calibrate(self, model):
        moments = self.folder / f"{Path(model).name}.moments"
        mobe("calibrate", model, self.args.calibration, moments, "--quiet")
        return moments

    @functools.cache  # noqa: B019
    def factor(self, bases, activation="identity"):
        model = self.folder / f"{bases}-bases-{activation}"
        options = ["--bases", bases, "--activation", activation, "--passes", self.args.passes]
        moments = self.calibrate(self.args.model)
        mobe("compress", self.args.model, model, *options, "--moments", moments, "--quiet")
        return model

    @functools.cache  # noqa: B019
    def approximate(self, method):
        """A plain model, and the share of gate and up that its factors would take."""
        model = self.folder / method
        options = ["--method", method, "--ratio", METHOD_SHARE]
        if method not in UNCALIBRATED:
            options += ["--moments", self.calibrate(self.args.model)]
        done = mobe("compress", self.args.model, model, *options, "--quiet", "--json")
        return model, done["factor_bytes"] / (self.expert_bytes * 2 / 3)

    def left(self, model):
        """The share of the experts' bytes that is left in a model."""
        saved = self.original["bytes"] - mobe("inspect", model, "--json")["bytes"]
        return 1 - saved / self.expert_bytes

    def quantise(self, model, *how):
        moments = self.calibrate(model)
        mobe("quantize", model, self.out, *how, "--parts", "a", "--moments", moments, "--quiet")
        return self.left(self.out)

    def choose(self, name, share, *options):
        size = int(self.original["bytes"] - (1 - share / 100) * self.expert_bytes)
        left = self.quantise(self.args.model, "--bytes", size, *options)
        self.measure(name, left, self.out)

    def choose_of(self, name, share):
        self.choose(name, share, "--factored", self.factor(MIXED))

    def add(self, name, model, a, down, *others, of=1):
        """`of`: the share of gate and up that would be stored, where the file has all; bits
        are those of down then."""
        formats = ",".join([f"down=int{down}", *others])
        left = self.quantise(model, "--format", f"int{a}", "--part-formats", formats)
        self.measure(name, left * (2 * of + 1) / 3, self.out)

    def add_method(self, name, method, bits):
        model, of = self.approximate(method)
        self.add(name, model, bits, bits, of=of)

    def add_factored(self, name, bases, a, b, down):
        self.add(name, self.factor(bases), a, down, f"bases=int{b}")

    def add_whole(self, name, bases, activation):
        model = self.factor(bases, activation)
        self.measure(name, self.left(model), model)

    def add_llama(self, name, kind, *options):
        script = REPOSITORY / "bench/llama_forms.py"
        moments = self.calibrate(self.args.model)
        size = run([LLAMA, script, self.args.model, moments, kind, self.out, *options])
        self.measure(name, int(size) / self.expert_bytes, self.out)

    def measure(self, name, share, model):
        found = []
        for text in self.args.texts:
            window = [text, "--context", 512, "--max-tokens", self.args.max_tokens]
            result = mobe("compare", self.args.model, model, *window, "--quiet", "--json")
            found.append((result["kld_mean"], result["kld_stderr"]))
        self.rows.append((share, found, name))
        if model == self.out:
            subprocess.run(["rm", "-r", self.out], check=True)
        print(f"{100 * share:.1f}% | {cells(found)} | {name}", file=sys.stderr, flush=True)

    def list(self):
        """The name of each row, what makes it, and of what."""
        if LLAMA.exists():
            for kind in LLAMA_TYPES:
                yield f"llama.cpp {kind}", self.add_llama, kind
                yield f"llama.cpp {kind}, importance", self.add_llama, kind, "--importance"
        for a, down in PLAIN:
            yield f"quantised {a}/{down}", self.add, self.args.model, a, down
        for method in METHODS:
            for bits in METHOD_BITS:
                yield f"{method}, {bits} bits", self.add_method, method, bits
        for bases, activation in WHOLE:
            yield f"{bases} bases, {activation}, BF16", self.add_whole, bases, activation
        for bases, a, b, down in FACTORED:
            name = f"{bases} bases, A {a}, bases {b}, down {down}"
            yield name, self.add_factored, bases, a, b, down
        for share in CHOSEN:
            yield f"chosen at {share}%", self.choose, share
            yield f"chosen at {share}%, {MIXED} bases", self.choose_of, share

    def is_best(self, row):
        return not any(s <= row[0] and f[0][0] < row[1][0][0] for s, f, _ in self.rows)

    def print(self):
        names = [text.name for text in self.args.texts]
        print(f"| share of the experts' bytes | {' | '.join(names)} | form |")
        print("|---" * (len(names) + 2) + "|")
        for row in sorted(self.rows):
            share, found, name = row
            star = " *" * self.is_best(row)
            print(f"| {100 * share:.1f}% | {cells(found)} | {name}{star} |")

    def plot(self, path):
        import matplotlib

        matplotlib.use("svg")
        from matplotlib import pyplot

        kinds = [  # how a name begins and ends, label, style; the first that fits
            ("llama.cpp", "", "llama.cpp", "x"),
            ("quantised", "", "quantised", "o"),
            ("chosen", "bases", "chosen, with factors at hand", "D"),
            ("chosen", "", "chosen, the original alone", "s"),
            ("", "", "factored", "^"),
        ]
        figure, axes = pyplot.subplots(figsize=(7, 4.5))
        # Of few bits: the others are far to the right.
        few = [r for r in self.rows if not r[2].endswith("BF16")]
        left = [r for r in few if not r[2].startswith(tuple(METHODS))]
        for first, last, label, style in kinds:
            own = [r for r in left if r[2].startswith(first) and r[2].endswith(last)]
            left = [r for r in left if r not in own]
            points = [100 * r[0] for r in own], [r[1][0][0] for r in own]
            axes.plot(*points, style, label=label, markersize=5)
        front = sorted(r for r in few if self.is_best(r))
        points = [100 * r[0] for r in front], [r[1][0][0] for r in front]
        axes.plot(*points, "-", color="gray", linewidth=1, zorder=0)
        text = self.args.texts[0].name
        axes.set(yscale="log", xlabel="% of the experts' bytes", ylabel=f"KL divergence, {text}")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--max-tokens", type=int, default=16384)
    parser.add_argument("--passes", type=int, default=500)
    parser.add_argument("--only", default="", metavar="REGEX")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        forms = Forms(args, Path(temporary))
        for name, make, *of in forms.list():
            if re.search(args.only, name):
                make(name, *of)
        forms.print()
        if args.plot:
            forms.plot(args.plot)


if __name__ == "__main__":
    main()
