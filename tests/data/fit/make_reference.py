#!/usr/bin/env python3
"""Writes reference.json, for src/mobe/fit_reference_test.cc:

losses: the scaled loss of the published fit (arXiv 2508.05257) over 50 passes
on ../models/qwen3_moe, layer 1 gate, by PyTorch's autograd and Adam, from a
start of pseudo-random numbers.

signs: of the first number of each right singular vector that PyTorch's SVD
finds for each group of experts, by matrix. An SVD does not determine them, but
silu makes the published result depend on them.

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


def weights(layer, kind):
    index = json.loads((MODEL / "model.safetensors.index.json").read_text())
    matrices = []
    for expert in range(EXPERTS):
        name = f"model.layers.{layer}.mlp.experts.{expert}.{kind}_proj.weight"
        with safe_open(MODEL / index["weight_map"][name], "pt") as file:
            matrices.append(file.get_tensor(name).half())
    return torch.stack(matrices)


def signs(layer, kind):
    groups = weights(layer, kind).float().view(BASES, -1, COLS)
    vectors = torch.linalg.svd(groups, full_matrices=False).Vh[:, :ROWS]
    return "".join("-" if v < 0 else "+" for v in vectors[:, :, 0].flatten())


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


target = weights(1, "gate")
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
result = {
    "losses": losses,
    "signs": {f"{i} {k}": signs(i, k) for i in (1, 2) for k in ("gate", "up")},
}
(HERE / "reference.json").write_text(json.dumps(result, indent=1) + "\n")
