"""`mobe reconstruct`: what it writes is a checkpoint that transformers loads as it
is, and the factored model up to one rounding to bfloat16."""

import json

import pytest
import torch
from checkpoints import build, load_stock, logits_of, sample_ids, tensors_of

LAYERS = (2, 3)
BASES = 8


@pytest.fixture(scope="module")
def folders(mobe, models, tmp_path_factory):
    """The bundled model factored in part, and that reconstructed."""
    native = tmp_path_factory.mktemp("reconstruct") / "native"
    plain = native.with_name("plain")
    options = ["--layers", "2-3", "--bases", BASES, "--budget", 3]
    mobe("compress", models / "mini-qwen3-moe", native, *options)
    mobe("reconstruct", native, plain)
    return native, plain


@pytest.fixture(scope="module")
def built(folders):
    """The factored matrices in float32, from the stored tensors."""
    tensors = tensors_of(folders[0])
    experts = {}
    for layer in LAYERS:
        for kind in ("gate", "up"):
            mlp = f"model.layers.{layer}.mlp"
            bases = tensors[f"{mlp}.B_{kind}"].float()
            for e, alpha in enumerate(tensors[f"{mlp}.W_{kind}"].float()):
                name = f"{mlp}.experts.{e}.{kind}_proj.weight"
                experts[name] = build(tensors[name].float(), alpha, bases, "silu")
    return experts


def test_is_a_checkpoint_of_the_original(folders, models):
    original = models / "mini-qwen3-moe"
    plain = tensors_of(folders[1])
    before = tensors_of(original)
    assert plain.keys() == before.keys()
    for name, tensor in before.items():
        assert plain[name].shape == tensor.shape
        assert plain[name].dtype == tensor.dtype
    config = json.loads((folders[1] / "config.json").read_text())
    assert config == json.loads((original / "config.json").read_text())


def test_experts_are_rounded_once(folders, built):
    # Where torch's order of summation puts a value on the other side of a tie,
    # the neighbouring bfloat16 is as good: 2^-8 of the value is one step.
    plain = tensors_of(folders[1])
    other = total = 0
    for name, expert in built.items():
        stored, rounded = plain[name].float(), expert.bfloat16().float()
        assert ((stored - expert).abs() <= 2**-8 * expert.abs() + 1e-6).all(), name
        other += (stored != rounded).sum().item()
        total += stored.numel()
    assert other < 1e-3 * total


# With the built experts in float32, transformers must give what the native model
# gives. What is left of the difference to the reconstructed one is the rounding of
# the experts. The residual stream passes by them, so it moves the logits less, in
# relative terms, than it moved the weights (seen: 7e-5 and 1.7e-3). The median
# token, because one that the rounding routes to another expert moves more: 5e-2.
def test_transformers_gives_our_logits(folders, built, mobe_logits):
    native, plain = folders
    stock = load_stock(plain)
    ids = sample_ids(stock.config.vocab_size)
    rounded = logits_of(stock, ids)
    assert (mobe_logits(plain, ids) - rounded).abs().max() < 1e-3

    error = scale = 0
    with torch.no_grad():
        for name, expert in built.items():
            stored = stock.get_parameter(name)
            error += (stored - expert).square().sum()
            scale += expert.square().sum()
            stored.copy_(expert)
    ours = mobe_logits(native, ids)
    assert (ours - logits_of(stock, ids)).abs().max() < 1e-3
    moved = (ours - rounded).norm(dim=-1) / rounded.norm(dim=-1)
    assert moved.median() < (error / scale).sqrt()
