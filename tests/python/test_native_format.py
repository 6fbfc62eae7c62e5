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


AUTO_MAP = {"AutoModelForCausalLM": "modeling_mobe.MobeForCausalLM"}


def declared(folder):
    return {name: (t.shape, t.dtype) for name, t in tensors_of(folder).items()}


def test_tensors_are_the_references(compressed, data):
    assert declared(compressed[0]) == declared(data / "models/qwen3_mobe")


def test_config_gains_keys(compressed, data):
    folder, activation = compressed
    config = json.loads((folder / "config.json").read_text())
    original = json.loads((data / "models/qwen3_moe/config.json").read_text())
    keys = {"num_B": BASES, "activation": activation, "auto_map": AUTO_MAP}
    assert config == original | keys


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


# As the reference writes Kimi-K2.
def test_two_expert_groups(mobe, data, mobe_logits, tmp_path):
    original = data / "models/qwen3_moe"
    mobe("compress", original, tmp_path / "out", "--groups", 2, "--bases", 8, "--budget", 20)
    config = json.loads((tmp_path / "out/config.json").read_text())
    plain = json.loads((original / "config.json").read_text())
    assert config == plain | {"num_B": 8, "activation": "silu", "auto_map": AUTO_MAP}
    shapes = {name: shape for name, (shape, _) in declared(tmp_path / "out").items()}
    for group in (0, 1):
        assert shapes[f"model.layers.1.mlp.B_gate_{group}"] == (4, 32, 64)
        assert shapes[f"model.layers.2.mlp.W_up_{group}"] == (8, 4)
    native = load_native(tmp_path / "out")
    ids = sample_ids(native.config.vocab_size)
    logits = logits_of(native, ids)
    for mode in ("built", "fused"):
        ours = mobe_logits(tmp_path / "out", ids, "--experts", mode)
        assert (ours - logits).abs().max() < TOLERANCE
    mobe("reconstruct", tmp_path / "out", tmp_path / "plain")
    # Experts rounded to bfloat16: a router's near tie may fall the other way, which the
    # mean survives and the largest difference does not.
    assert (mobe_logits(tmp_path / "plain", ids) - logits).abs().mean() < 0.02
    mobe("verify", tmp_path / "out", "--against", original)
