"""What `mobe compress` writes is the reference's native format: the same tensors
as tests/data/models/qwen3_mobe, which the reference wrote, and a model that loads
by these names alone."""

import json

import pytest
from checkpoints import load_native, logits_of, sample_ids, tensors_of
from safetensors.torch import load_file

BASES = 4
TOLERANCE = 1e-3


@pytest.fixture(scope="module", params=["silu", "tanh"])
def compressed(request, mobe, data, tmp_path_factory):
    """A folder and its activation."""
    out = tmp_path_factory.mktemp("native") / request.param
    original = data / "models/qwen3_moe"
    options = ["--bases", BASES, "--budget", 20, "--activation", request.param]
    mobe("compress", original, out, *options)
    return out, request.param


def declared(folder):
    return {name: (t.shape, t.dtype) for name, t in tensors_of(folder).items()}


def test_tensors_are_the_references(compressed, data):
    assert declared(compressed[0]) == declared(data / "models/qwen3_mobe")


def test_config_gains_num_B_and_activation(compressed, data):
    folder, activation = compressed
    config = json.loads((folder / "config.json").read_text())
    original = json.loads((data / "models/qwen3_moe/config.json").read_text())
    assert config == original | {"num_B": BASES, "activation": activation}


def test_what_is_not_factored_is_copied(compressed, data):
    written = tensors_of(compressed[0])
    original = tensors_of(data / "models/qwen3_moe")
    copied = [name for name in original if written[name].shape == original[name].shape]
    assert any("down_proj" in name for name in copied)
    assert all(written[name].equal(original[name]) for name in copied)


def test_loads_by_name_and_gives_our_logits(compressed, mobe_logits):
    folder, _ = compressed
    native = load_native(folder)
    ids = sample_ids(native.config.vocab_size)
    logits = logits_of(native, ids)
    for mode in ("built", "fused"):
        ours = mobe_logits(folder, ids, "--experts", mode)
        assert (ours - logits).abs().max() < TOLERANCE


def test_the_native_forward_is_the_references(data):
    folder = data / "models/qwen3_mobe"
    golden = load_file(folder / "golden.safetensors")
    native = load_native(folder)
    logits = logits_of(native, golden["input_ids"])
    assert (logits - golden["logits"]).abs().max() < TOLERANCE
