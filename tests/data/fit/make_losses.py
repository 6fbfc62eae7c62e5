#!/usr/bin/env python3
"""Writes losses.json: the scaled loss of the published fit (arXiv 2508.05257)
over 50 passes on ../models/qwen3_moe, layer 1 gate, by PyTorch's autograd and
Adam. src/mobe/fit_reference_test.cc repeats it from the same start.

Needs torch and safetensors.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch.nn.functional import silu, softmax

PASSES = 50
EXPERTS, ROWS, COLS, BASES = 16, 32, 64, 4
HERE = Path(__file__).parent
MODEL = HERE.parent / "models/qwen3_moe"


def weight(expert):
    name = f"model.layers.1.mlp.experts.{expert}.gate_proj.weight"
    index = json.loads((MODEL / "model.safetensors.index.json").read_text())
    with safe_open(MODEL / index["weight_map"][name], "pt") as file:
        return file.get_tensor(name).half()


def minstd():
    """std::minstd_rand, as numbers in (0, 1)."""
    state = 1
    while True:
        state = state * 48271 % 2147483647
        yield state / 2147483647


def start(*shape, scale, numbers=minstd()):
    count = torch.Size(shape).numel()
    values = [(next(numbers) - 0.5) * scale for _ in range(count)]
    return torch.tensor(values).view(shape).requires_grad_()


target = torch.stack([weight(e) for e in range(EXPERTS)])
target = (target / target.std()).float()
a = start(EXPERTS, ROWS, ROWS, scale=0.5)
bases = start(BASES, ROWS, COLS, scale=2)
logits = start(EXPERTS, BASES, scale=4)
adam = torch.optim.Adam([a, bases, logits], lr=0.07)
losses = []
for _ in range(PASSES):
    adam.zero_grad()
    mixed = (softmax(logits, 1) @ bases.flatten(1)).view(EXPERTS, ROWS, COLS)
    loss = (a @ silu(mixed) - target).square().mean()
    loss.backward()
    adam.step()
    losses.append(loss.item())
(HERE / "losses.json").write_text(json.dumps(losses, indent=0) + "\n")
