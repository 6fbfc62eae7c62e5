"""`mobe logits` against golden files and against transformers. 1e-3 is what two
orders of summation in float32 allow: the goldens' own distance from float64 is
1.5e-5 on logits of standard deviation 3."""

import json

import pytest
import torch
from checkpoints import load_stock, logits_of, sample_ids
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-3
GOLDEN = ("qwen3_moe", "qwen3_mobe", "qwen3_mobe_reconstructed")


def write_safetensors(path, ids):
    save_file({"input_ids": ids}, path)


def write_json(path, ids):
    path.write_text(json.dumps(ids.tolist()))


def write_text(path, ids):
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in ids.tolist()))


WRITERS = {
    "ids.safetensors": write_safetensors,
    "ids.json": write_json,
    "ids.txt": write_text,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("model", GOLDEN)
def test_golden(mobe, data, tmp_path, model, name):
    golden = load_file(data / "models" / model / "golden.safetensors")
    ids, out = tmp_path / name, tmp_path / "logits.safetensors"
    WRITERS[name](ids, golden["input_ids"])
    mobe("logits", data / "models" / model, "--ids", ids, "--out", out)
    logits = load_file(out)["logits"]
    assert logits.dtype == torch.float32
    assert (logits - golden["logits"]).abs().max() < TOLERANCE


def test_golden_without_building_experts(data, mobe_logits):
    folder = data / "models/qwen3_mobe"
    golden = load_file(folder / "golden.safetensors")
    logits = mobe_logits(folder, golden["input_ids"], "--experts", "fused")
    assert (logits - golden["logits"]).abs().max() < TOLERANCE


@pytest.mark.parametrize("which", ["fixture", "bundled"])
def test_stock_transformers(data, models, mobe_logits, which):
    folder = {
        "fixture": data / "models/qwen3_moe",
        "bundled": models / "mini-qwen3-moe",
    }[which]
    stock = load_stock(folder)
    ids = sample_ids(stock.config.vocab_size)
    logits = mobe_logits(folder, ids)
    assert (logits - logits_of(stock, ids)).abs().max() < TOLERANCE


def test_what_is_read_is_not_written_over(mobe, data, tmp_path):
    model = data / "models/qwen3_moe"
    ids = tmp_path / "ids.json"
    ids.write_text("[[1, 2]]")
    message = mobe("logits", model, "--ids", ids, "--out", ids, code=1)
    assert "is read by this command; name another file" in message
    inside = model / "logits.safetensors"
    message = mobe("logits", model, "--ids", ids, "--out", inside, code=1)
    assert "lies in the model's folder; name a file elsewhere" in message
    message = mobe("calibrate", model, ids, ids, code=1)
    assert "is read by this command" in message
    assert ids.read_text() == "[[1, 2]]" and not inside.exists()


def test_bfloat16_without_avx512(mobe_logits, data, monkeypatch):
    """Such a CPU multiplies no bfloat16: the products are then in float32."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("MOBE_KERNELS", "scalar")
    folder = data / "models/qwen3_moe"
    ids = torch.arange(32).reshape(1, 32)
    want = mobe_logits(folder, ids)
    assert torch.equal(mobe_logits(folder, ids, "--dtype", "bfloat16"), want)
