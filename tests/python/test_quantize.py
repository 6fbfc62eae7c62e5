"""Quantised models as numpy reads them, by the layout that src/tensor/packed.h tells."""

import json

import numpy as np
import pytest
import torch
from checkpoints import tensors_of

GROUPS = {"int8": 64, "int4": 32}


def decode(codes, scales, rows, cols, form):
    """The float matrix of two planes."""
    blocks, groups, lanes = scales.shape
    codes = codes.reshape(blocks, -1, lanes, 4)
    if form == "int4":  # two quads to a byte, the first in its low half
        low, high = codes & 15, codes >> 4
        codes = np.stack([low, high], axis=2).reshape(blocks, -1, lanes, 4)
    middle = 128 if form == "int8" else 8
    values = codes.astype(np.float32) - middle
    values = values.transpose(0, 2, 1, 3).reshape(blocks * lanes, -1)[:rows, :cols]
    scales = scales.transpose(0, 2, 1).reshape(blocks * lanes, groups)[:rows]
    return values * np.repeat(scales, GROUPS[form], axis=1)[:, :cols]


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_planes_are_as_documented(mobe, models, tmp_path, form):
    original = models / "mini-qwen3-moe"
    report = mobe("quantize", original, tmp_path / "q", "--format", form, "--json")
    before, after = tensors_of(original), tensors_of(tmp_path / "q")
    config = json.loads((tmp_path / "q/config.json").read_text())
    assert config["mobe"]["version"] == 3
    errors, squares = 0.0, 0.0
    seen = 0
    for name, tensor in before.items():
        if name in after:
            assert torch.equal(tensor, after[name]), name
            continue
        stored = next(f for f in config["mobe"]["packed"] if f"{name}.{f}" in after)
        if "embed" not in name and "lm_head" not in name:
            assert stored == form
        codes = after[f"{name}.{stored}"].numpy()
        scales = after[f"{name}.{stored}.scales"].float().numpy()
        values = decode(codes, scales, *tensor.shape, stored)
        given = tensor.float().numpy()
        errors += float(((values - given) ** 2).sum())
        squares += float((given**2).sum())
        seen += 1
    assert seen == report["matrices"]
    assert report["relative"] == pytest.approx((errors / squares) ** 0.5, rel=1e-4)
    assert report["bytes_out"] < {"int8": 0.53, "int4": 0.33}[form] * report["bytes_in"]


def test_a_factored_model_runs_quantised(mobe, mobe_logits, models, tmp_path):
    """Fused and built, to what its plain form gives; weights and inputs are rounded
    to 8 bits, each within 1 %."""
    original = models / "mini-qwen3-moe"
    mobe("compress", original, tmp_path / "m", "--ratio", 0.75, "--budget", 1)
    mobe("quantize", tmp_path / "m", tmp_path / "q", "--format", "int8")
    ids = torch.arange(40).reshape(2, 20) * 7
    want = mobe_logits(tmp_path / "m", ids)
    for experts in ("fused", "built"):
        got = mobe_logits(tmp_path / "q", ids, "--experts", experts)
        off = ((got - want).norm() / want.norm()).item()
        assert 1e-4 < off < 0.05, (experts, off)
    verified = mobe("verify", tmp_path / "q", "--against", original, "--json")
    assert verified["ok"] and verified["tensors_packed"] > 0
    assert "a int8" in mobe("inspect", tmp_path / "q")
