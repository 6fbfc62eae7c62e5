#!/usr/bin/env python3
"""These bytes, which form? Quantises a model's experts, as they are and factored, in
several splits of bits, and prints how far each one's predictions are from the original's,
by the share of the experts' bytes that is left, in Markdown. A row that no other one beats
in both has a star.

Usage: bench/equal_bytes.py MODEL CALIBRATION TEXT [--max-tokens N] [--passes N]
CALIBRATION is the text that roundings and fits are weighed by, TEXT that on which the
divergence is measured."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MOBE = os.environ.get("MOBE", str(REPOSITORY / "build/release/mobe"))

# Shares for which quantize --bytes chooses by itself, with and without factors.
CHOSEN = [16, 18, 20, 22, 26, 30, 40]
# Bits of gate and up, and of down.
PLAIN = [(2, 2), (2, 3), (2, 4), (2, 5), (3, 3), (3, 4), (3, 5), (4, 4), (4, 5), (5, 5), (6, 6)]
# Bases of gate and up, and bits of A, of bases and of down.
FACTORED = [
    (8, 3, 3, 3), (8, 4, 3, 4), (8, 5, 4, 5),
    (4, 3, 3, 3), (4, 4, 3, 3), (4, 4, 3, 4), (4, 5, 4, 4), (4, 5, 4, 5), (4, 6, 5, 6),
    (3, 4, 3, 3), (3, 5, 4, 4), (3, 5, 4, 5),
]  # fmt: skip
# Bases of those among which quantize --factored chooses.
MIXED = 3


def mobe(*arguments):
    done = subprocess.run([MOBE, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"equal_bytes: mobe {arguments[0]}: {done.stderr}")
    return json.loads(done.stdout) if "--json" in arguments else None


class Forms:
    def __init__(self, args, folder):
        self.args, self.folder, self.rows = args, folder, []
        self.original = mobe("inspect", args.model, "--json")

    def calibrate(self, model):
        moments = self.folder / f"{Path(model).name}.moments"
        mobe("calibrate", model, self.args.calibration, moments, "--quiet")
        return moments

    def choose(self, name, share, moments, *options):
        saved = (1 - share / 100) * 2 * self.original["parameters"]["experts"]
        size = int(self.original["bytes"] - saved)
        self.measure(name, self.args.model, moments, "--bytes", size, *options)

    def add(self, name, model, moments, a, down, *others):
        formats = ",".join([f"down=int{down}", *others])
        self.measure(name, model, moments, "--format", f"int{a}", "--part-formats", formats)

    def measure(self, name, model, moments, *how):
        out = self.folder / "out"
        mobe("quantize", model, out, *how, "--parts", "a", "--moments", moments, "--quiet")
        compare = [self.args.text, "--context", 512, "--max-tokens", self.args.max_tokens]
        found = mobe("compare", self.args.model, out, *compare, "--quiet", "--json")
        saved = self.original["bytes"] - mobe("inspect", out, "--json")["bytes"]
        share = 1 - saved / (2 * self.original["parameters"]["experts"])
        self.rows.append((share, found["kld_mean"], found["kld_stderr"], name))
        subprocess.run(["rm", "-r", out], check=True)

    def print(self):
        print("| share of the experts' bytes | KL divergence | form |\n|---|---|---|")
        for share, kld, error, name in sorted(self.rows):
            best = not any(s <= share and k < kld for s, k, _, _ in self.rows)
            print(f"| {100 * share:.1f}% | {kld:.6f} ± {error:.6f} | {name}{' *' * best} |")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--max-tokens", type=int, default=16384)
    parser.add_argument("--passes", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        forms = Forms(args, folder)
        moments = forms.calibrate(args.model)
        for a, down in PLAIN:
            forms.add(f"quantised {a}/{down}", args.model, moments, a, down)
        for bases in sorted({bases for bases, *_ in FACTORED}):
            model = folder / f"{bases}-bases"
            options = ["--bases", bases, "--passes", args.passes, "--activation", "identity"]
            mobe("compress", args.model, model, *options, "--moments", moments, "--quiet")
            own = forms.calibrate(model)
            for a, b, down in [bits for count, *bits in FACTORED if count == bases]:
                name = f"{bases} bases, A {a}, bases {b}, down {down}"
                forms.add(name, model, own, a, down, f"bases=int{b}")
        for share in CHOSEN:
            forms.choose(f"chosen at {share}%", share, moments)
            factored = ["--factored", folder / f"{MIXED}-bases"]
            forms.choose(f"chosen at {share}%, {MIXED} bases", share, moments, *factored)
        forms.print()


if __name__ == "__main__":
    main()
